"""The proof of a description: every form of a small random model computes the same, and its parameters are counted."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import ModelError, is_out_of_memory, one_line
from prunecast.export.parity import distance, generation_logits
from prunecast.export.proof.architectures import every_count, uniform, with_components_removed
from prunecast.export.proof.config_names import has_own_head_dim, has_own_width, wrong_name
from prunecast.export.proof.counts import unneeded_parameter, wrong_count
from prunecast.export.proof.trial import EAGER, TOKENS, InFloat64, Trial
from prunecast.models.families.family import Family
from prunecast.models.families.head import head_of
from prunecast.models.families.quiet import quiet_transformers
from prunecast.text import counted

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TOLERANCE = 1e-9
"""Largest relative distance of logits in float64."""

ELASTIC = "elastic"
"""Kind of comparison that is made for every architecture."""


@dataclass(frozen=True)
class Proof:
    """Result of a proof.

    Attributes:
        family: name of the family.
        seconds: time that it took.
        comparisons: number of comparisons by kind.
        worst: largest relative distance of logits.
    """

    family: str
    seconds: float
    comparisons: Mapping[str, int]
    worst: float

    def __str__(self) -> str:
        """One line."""
        architectures = counted(self.comparisons[ELASTIC], "architecture")
        return (
            f"family {self.family}: proven in {self.seconds:.1f} s: {architectures} of a small random model, "
            f"{sum(self.comparisons.values()):,} comparisons of its elastic, masked and exported forms, worst "
            f"difference {self.worst:.0e}"
        )


class Found(NamedTuple):
    """Result of one comparison.

    Attributes:
        kind: kind of comparison.
        architecture: the architecture whose forms are compared.
        off: relative distance of logits, 0 if something else is compared.
        problem: the difference in words if something else is compared; empty if there is none.
    """

    kind: str
    architecture: Architecture
    off: float = 0.0
    problem: str = ""

    @property
    def wrong(self) -> str:
        """A clause on the difference; empty if there is none."""
        if self.problem or self.off <= TOLERANCE:
            return self.problem
        return f"logits differ by {self.off:.1e} (relative, at most {TOLERANCE:.0e})"


def prove(family: Family, config: "PreTrainedConfig") -> Proof:
    """Prove that a description is right for the models of a config: that pruning by it computes what it should.

    It takes a few seconds of one processor, and restores the state of torch's random numbers.

    Args:
        family: the description.
        config: config of a model of the family, of any size; it is not changed.

    Raises:
        ModelError: the description is wrong, the config class cannot be shrunk, or the losses of its models cannot be
            measured; the message names the check, the architecture and the difference.
    """
    started, worst, comparisons = time.monotonic(), 0.0, Counter[str]()
    with torch.inference_mode(mode=False), torch.enable_grad(), torch.random.fork_rng(), InFloat64():
        trial = Trial(config, family.settled(config))
        for check in CHECKS:
            for found in results(check, trial):
                if found.wrong:
                    raise ModelError(
                        f"family {family.name!r} is not described rightly: {found.kind}, architecture "
                        f"{found.architecture}: {found.wrong}; correct its description"
                    )
                comparisons[found.kind] += 1
                worst = max(worst, found.off)
    return Proof(family.name, time.monotonic() - started, dict(comparisons), worst)


Check = Callable[[Trial], Iterator[Found]]


def results(check: Check, trial: Trial) -> Iterator[Found]:
    """Comparisons of a check; an error that it raises is the last of them.

    Raises:
        ModelError: the description does not fit the modules.
        Exception: there is no memory left.
    """
    try:
        yield from check(trial)
    # Modules that a wrong description cuts can raise anything.
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, ModelError):
            raise
        reason = f"{type(error).__name__}: {one_line(error)}"
        yield Found(check.__name__.strip("_"), trial.current, problem=f"it fails ({reason})")


def _names(trial: Trial) -> Iterator[Found]:
    """Config attributes are those that the class builds its layers from."""
    yield Found(
        "config attributes",
        trial.shape.dense,
        problem=wrong_name(trial.config, trial.family, trial.shape.dense.layers[0]),
    )


def _head(trial: Trial) -> Iterator[Found]:
    """Losses can be measured: the logits are those of the head, scaled or capped."""
    with torch.inference_mode():
        head_of(trial.stock)
    yield Found("head", trial.shape.dense)


def _windows(trial: Trial) -> Iterator[Found]:
    """The attention of each layer sees as far back as its window."""
    dense = trial.shape.dense
    for index, cost in enumerate(trial.shape.layers):
        alone = Architecture(
            [Layer(*(kept[:2] if other == index else (0, 0)), kept[2]) for other, kept in enumerate(dense.layers)]
        )
        window = TOKENS if cost.window is None else cost.window
        problem = "" if trial.sees(alone, window - 1) else f"no token sees {window - 1} tokens back"
        if window < TOKENS and trial.sees(alone, window):
            problem = f"a token sees {window} tokens back, and should not"
        yield Found("windows", alone, problem=problem)


def _elastic(trial: Trial) -> Iterator[Found]:
    """Elastic model and masked stock model compute the same."""
    with torch.inference_mode():
        dense = trial.shape.dense
        yield Found("reordered", dense, distance(trial.of_elastic(dense), trial.logits(trial.stock)))
        for architecture in _all(trial):
            off = distance(trial.of_elastic(architecture), trial.of_masked(architecture))
            yield Found(ELASTIC, architecture, off)


def _eager(trial: Trial) -> Iterator[Found]:
    """Elastic model and masked stock model compute the same with eager attention, which reads other attributes."""
    if trial.eager is not None:
        for found in _elastic(trial.eager):
            yield found._replace(kind=f"{found.kind} with eager attention")


def _smaller(trial: Trial) -> Iterator[Found]:
    """Stock models with smaller numbers in their config and masked stock models compute the same."""
    # Where each head has a constant of its own, as with ALiBi, a stock model cannot have reordered heads.
    alike = len(set(trial.shape.dense.layers)) == 1 and not trial.family.per_head
    with_heads = has_own_head_dim(trial.config, trial.family)
    with_width = has_own_width(trial.config, trial.family, trial.shape.dense.layers[0].mlp_width)
    if alike and (with_heads or with_width):
        for architecture in uniform(trial.shape.dense, with_heads, with_width):
            with torch.inference_mode():
                logits = trial.logits(trial.smaller(architecture))
                yield Found("smaller stock model", architecture, distance(logits, trial.of_masked(architecture)))


def _exported(trial: Trial) -> Iterator[Found]:
    """Exported and reloaded models compute the same as masked stock models."""
    removed = list(with_components_removed(trial.shape.dense))
    for architecture in _all(trial):
        yield from exported_forms(trial, architecture, thorough=architecture in removed)


def exported_forms(trial: Trial, architecture: Architecture, *, thorough: bool) -> Iterator[Found]:
    """The exported model of an architecture against the masked stock model, and against its counted sizes.

    Args:
        trial: the trial.
        architecture: the architecture.
        thorough: True to also generate with a cache and without, and to look for parameters that nothing depends on.
    """
    with trial.exported(architecture) as model:
        with torch.inference_mode():
            expected = trial.of_masked(architecture)
            yield Found("exported", architecture, distance(trial.logits(model), expected))
            yield Found("counted", architecture, problem=wrong_count(trial, model, architecture))
            if thorough:
                yield Found("cached", architecture, distance(*generation_logits(model, trial.tokens)))
            if trial.eager is not None and _is_eager(model):
                expected = trial.eager.of_masked(architecture)
                yield Found("exported with eager attention", architecture, distance(trial.logits(model), expected))
        if thorough:
            yield Found("needed", architecture, problem=unneeded_parameter(trial, model))


def _is_eager(model: "PreTrainedModel") -> bool:
    """Switch a model to eager attention; False if its class chooses it in the constructor."""
    with quiet_transformers():
        model.set_attn_implementation(EAGER)
    return bool(model.config._attn_implementation == EAGER)


def _all(trial: Trial) -> list[Architecture]:
    """Architectures to compute, each once."""
    dense = trial.shape.dense
    return list(dict.fromkeys([*with_components_removed(dense), *every_count(dense)]))


CHECKS: tuple[Check, ...] = (_head, _elastic, _eager, _names, _windows, _smaller, _exported)
