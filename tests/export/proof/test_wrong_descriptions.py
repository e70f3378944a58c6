"""Every field of every described family, wrong once: the proof finds it, or it makes no difference, for a reason."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from family_cases import CASES, config_of, mutants
from slow_cases import slow_but

from prunecast.errors import ModelError
from prunecast.export.proof.prove import prove
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import model_without_weights, shape_of
from prunecast.models.families.small import small
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost

FAMILIES = families_of(PluginHost.discover())

QUICK = ("phi3",)

ALL = slow_but(QUICK, CASES)


@dataclass(frozen=True)
class Subject:
    """What decides whether a change makes a difference: the settled description, and a small model of the config."""

    family: Family
    config: Any

    @cached_property
    def layer(self) -> Any:
        return model_without_weights(self.config).get_submodule(self.family.layers)[0]

    @cached_property
    def dense(self) -> Any:
        return shape_of(self.config, self.family).dense.layers[0]

    @property
    def separate(self) -> bool:
        """Queries, keys and values are modules of their own."""
        return len({self.family.query, self.family.key, self.family.value}) == 3

    @property
    def one_head_a_group(self) -> bool:
        return bool(self.dense.heads_per_group == 1)

    @property
    def one_group(self) -> bool:
        return bool(self.dense.kv_groups == 1)

    def without_weights(self, name: str) -> bool:
        """A module of the layer is not there, or is a norm without weights."""
        module = dict(self.layer.named_modules()).get(name)
        return module is None or not list(module.parameters())

    def same_size(self, one: str, other: str) -> bool:
        """Two sizes are the same, whatever is kept."""
        pair = {one, other}
        same = {"kv_groups", "query_heads"} if self.one_head_a_group else {"heads_per_group", "query_heads"}
        return pair == same and (self.one_head_a_group or self.one_group)


def why_equivalent(label: str, subject: Subject) -> str:
    """Reason why a change of a description makes no difference for the models of a config; empty if it makes one."""
    family, config, words = subject.family, subject.config, label.split()
    if label == "key and value swapped" and subject.separate:
        return "the rows of keys and values of a group are reordered, cut and counted alike"
    if label == "gate and up swapped" and family.gate is not None:
        return "the rows of gate and up of a channel are reordered, cut and counted alike"
    if label in ("query and key swapped", "query and value swapped") and subject.separate and subject.one_head_a_group:
        return "with one head a group, its rows of queries are reordered, cut and counted like those of keys and values"
    if label == "fused otherwise" and (subject.separate or subject.one_group):
        return "there is no other order of rows: each has a module of its own, or there is one group"
    if words[0] in ("query_norm", "key_norm") or label in ("no query_norm", "no key_norm"):
        return "models of this config have no such norms" if subject.without_weights(str(family.query_norm)) else ""
    if label == "heads_attribute is num_attention_heads":
        return "it is the class's own alias" if config.attribute_map.get("num_attention_heads") else ""
    if label in ("groups_attribute is num_attention_heads", "no groups_attribute") and subject.one_head_a_group:
        return "each head is its group, so their numbers are the same"
    if label.startswith("width_attribute is") and not hasattr(config, family.width_attribute):
        return "" if hasattr(config, words[-1]) else "the class has no such number, so any name is that of the export"
    if label.startswith("variant") or ("among" in words and words[2] not in ("attention_norms,", "mlp_norms,")):
        return _of_norms(subject)
    if "follow" in label:
        return _of_size(words, subject)
    if label.endswith("is not by head"):
        return "" if getattr(config, "alibi", True) else "only ALiBi has something for each head"
    return ""


def _of_norms(subject: Subject) -> str:
    family = subject.family
    norms = (*family.attention_norms, *family.mlp_norms, *family.shared_norms, *family.lasting)
    return "a norm without weights that nothing reads costs nothing" if all(map(subject.without_weights, norms)) else ""


def _of_size(words: list[str], subject: Subject) -> str:
    """Reason for ``ATTRIBUTE follows SIZE`` or ``ATTRIBUTE does not follow``."""
    right = subject.family.follows[words[0]]
    if words[-1] == "follow":
        constant = subject.one_group and right == "kv_groups"
        return "there is always one group" if constant else ""
    if subject.same_size(right, words[-1]):
        return "the two sizes are always the same"
    if subject.one_group and words[0] == "num_key_value_groups" and words[-1] == "kv_groups":
        return "the keys of one group are broadcast to all heads, whatever their number"
    return ""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", ALL)
def test_every_field_wrong_once_is_found_or_makes_no_difference(case: str) -> None:
    config = config_of(case)
    described = FAMILIES[config.model_type]
    subject = Subject(described.settled(config), small(config))
    survived, equivalent, wrong = [], [], list(mutants(described, config))
    for label, mutant in wrong:
        equivalent += [label] if why_equivalent(label, subject) else []
        with suppress(ModelError):
            prove(mutant, config)
            survived.append(label)
    assert survived == equivalent
    assert len(equivalent) < len(wrong) / 3
