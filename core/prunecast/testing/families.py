"""Checks of descriptions of families."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from prunecast.models.families.family import Family
from prunecast.models.families.quiet import quiet_transformers
from prunecast.plugins.families import family_of
from prunecast.plugins.hookspecs import Entry
from prunecast.plugins.host import FAMILY, Registered
from prunecast.plugins.local import Origin
from prunecast.testing.checks import Conformance, Suite, Verdict, require

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class FamilySubject:
    """The description of a family under test.

    Attributes:
        plugin: its entry.
        options: attributes of the config of the model that it is compared with; those of its trial if empty.
        requires: modules that have to be installed for the classes of the model.
    """

    plugin: Entry
    options: Mapping[str, Any] = field(default_factory=dict)
    requires: Sequence[str] = ()

    def family(self) -> Family:
        """The description. Raises PluginError if its file is not valid."""
        return family_of(Registered(FAMILY, self.plugin, Origin("the package under test", "-")))

    def config(self, **changes: Any) -> "PreTrainedConfig":
        """A config of its model type, with changes. Raises CheckFailed if there is no class for it."""
        from transformers import CONFIG_MAPPING, AutoConfig

        kind = self.family().name  # reading it has imported the module of its target, which may register classes
        require(
            kind in CONFIG_MAPPING,
            f"transformers has no config class for model type {kind!r}: correct the name, or register classes of your "
            "own in the module of the entry's target",
        )
        with quiet_transformers():
            return AutoConfig.for_model(kind, **{**(self.options or self.plugin.trial.options), **changes})

    def configs(self) -> "Iterator[PreTrainedConfig]":
        """Configs of its model type: that of the options, and one that is of each variant."""
        yield self.config()
        for variant in self.family().variants:
            wanted = {name: values if isinstance(values, list) else [values] for name, values in variant.when.items()}
            yield self.config(**{name: values[-1] for name, values in wanted.items()})


def the_file_is_a_description(subject: FamilySubject) -> None:
    """The file is valid: every field is known and of its type, and ``name`` is that of the entry."""
    subject.family()


def transformers_has_a_class_for_its_model_type(subject: FamilySubject) -> None:
    """Config and causal language model are classes of transformers, or registered by the module of the target."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    config = subject.config()
    require(
        type(config) in MODEL_FOR_CAUSAL_LM_MAPPING,
        f"there is no causal language model for {type(config).__name__}: describe the type of one",
    )


def the_config_has_the_attributes_that_it_names(subject: FamilySubject) -> None:
    """The config has the attribute of the number of heads, and those that variants depend on."""
    family, config = subject.family(), subject.config()
    named = [family.heads_attribute, *(name for variant in family.variants for name in variant.when)]
    missing = [name for name in dict.fromkeys(named) if not hasattr(config, name)]
    require(not missing, f"{type(config).__name__} has no attribute {', '.join(missing)}")


def it_accounts_for_every_parameter_of_a_layer(subject: FamilySubject) -> None:
    """The described modules exist, are what they are described as, and hold all parameters of their layer."""
    from prunecast.models.families.sizes import shape_of

    for config in subject.configs():
        shape_of(config, subject.family().settled(config))


def the_numeric_proof_accepts_it(subject: FamilySubject) -> None:
    """Pruned by the description, a small random model computes what it should, in every form; also of each variant."""
    from prunecast.export.proof.prove import prove

    for config in subject.configs():
        with quiet_transformers():
            prove(subject.family(), config)


FAMILIES: Suite[FamilySubject] = Suite(
    FamilySubject,
    (
        the_file_is_a_description,
        transformers_has_a_class_for_its_model_type,
        the_config_has_the_attributes_that_it_names,
        it_accounts_for_every_parameter_of_a_layer,
        the_numeric_proof_accepts_it,
    ),
)
"""Suite of descriptions of families."""


class FamilyConformance(Conformance, suite=FAMILIES):
    """Base of a test class for the description of a family: set ``plugin`` to its entry."""

    plugin: ClassVar[Entry]  # type: ignore[assignment]  # a description is data and has no class


def check_family(
    plugin: Entry,
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Run every check on the description of a family. Raises CheckFailed, with one line per failed check, if any fails.

    Args:
        plugin: the entry of the description.
        options: attributes of the config to check it with; those of the entry's trial if not given.
        expected_failures: names of checks that it is known to fail, each with the reason.
    """
    return FAMILIES.check(plugin, options, expected_failures)
