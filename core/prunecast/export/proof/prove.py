"""The proof of a description: every form of a small random model computes the same, and its parameters are counted."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import ModelError, is_out_of_memory, one_line
from prunecast.export.parity import distance, generation_logits
from prunecast.export.proof.architectures import dense_or_gone, every_count, uniform
from prunecast.export.proof.config_names import has_own_head_dim, wrong_name
from prunecast.export.proof.counts import unneeded_parameter, wrong_count
from prunecast.export.proof.trial import TOKENS, InFloat64, Trial
from prunecast.models.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

TOLERANCE = 1e-9
"""Largest relative distance of logits in float64."""


@dataclass(frozen=True)
class Proof:
    """What a proof has checked.

    Attributes:
        family: name of the family.
        seconds: time that it took.
        checked: number of comparisons by kind.
        worst: largest relative distance of logits.
    """

    family: str
    seconds: float
    checked: dict[str, int]
    worst: float

    def __str__(self) -> str:
        checked = ", ".join(f"{count} x {kind}" for kind, count in self.checked.items())
        return f"family {self.family}: proven in {self.seconds:.1f} s: {checked}; worst difference {self.worst:.0e}"


class Found(NamedTuple):
    """Result of one comparison.

    Attributes:
        kind: what is compared.
        architecture: of which architecture.
        off: relative distance of logits, 0 where something else is compared.
        problem: what is wrong; empty if nothing is.
    """

    kind: str
    architecture: Architecture
    off: float = 0.0
    problem: str = ""


def prove(family: Family, config: "PreTrainedConfig") -> Proof:
    """Prove that a description is right for the models of a config: that pruning by it computes what it should.

    Takes a few seconds of one processor. The state of torch's random numbers is kept.

    Args:
        family: the description.
        config: config of a model of the family, of any size; it is not changed.

    Raises:
        ModelError: the description is wrong, or the config class cannot be shrunk; the message names the check, the
            architecture and the difference.
    """
    started, worst, checked = time.monotonic(), 0.0, Counter[str]()
    if (kind := config.model_type.removeprefix("prunecast-")) != family.name:
        raise _failed(family, f"it is used for a model of type {kind!r}")
    with torch.random.fork_rng(), InFloat64():
        trial = Trial(config, family.settled(config))
        for check in CHECKS:
            for found in _results(check, trial):
                if found.problem or not found.off <= TOLERANCE:
                    problem = found.problem or f"logits differ by {found.off:.1e} (relative, at most {TOLERANCE:.0e})"
                    raise _failed(family, f"{found.kind}, architecture {found.architecture}: {problem}")
                checked[found.kind] += 1
                worst = max(worst, found.off)
    return Proof(family.name, time.monotonic() - started, dict(checked), worst)


Check = Callable[[Trial], Iterator[Found]]


def _results(check: Check, trial: Trial) -> Iterator[Found]:
    try:
        yield from check(trial)
    # Modules that a wrong description cuts can raise anything.
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, ModelError):
            raise
        reason = f"{type(error).__name__}: {one_line(error)}"
        kind = (check.__doc__ or "").splitlines()[0].removesuffix(".")
        yield Found(kind, trial.elastic.architecture, problem=f"it cannot be computed ({reason})")


def _names(trial: Trial) -> Iterator[Found]:
    """Config attributes are those that the class builds its layers from."""
    yield Found(
        "config attributes",
        trial.shape.dense,
        problem=wrong_name(trial.config, trial.family, trial.shape.dense.layers[0]),
    )


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
            yield Found("elastic", architecture, off)


def _smaller(trial: Trial) -> Iterator[Found]:
    """Stock models with smaller numbers in their config and masked stock models compute the same."""
    alike = len(set(trial.shape.dense.layers)) == 1
    with_heads = has_own_head_dim(trial.config, trial.family)
    with_width = trial.has(trial.family.width_attribute)
    if alike and (with_heads or with_width):
        for architecture in uniform(trial.shape.dense, with_heads, with_width):
            with torch.inference_mode():
                logits = trial.logits(trial.smaller(architecture))
                yield Found("smaller stock model", architecture, distance(logits, trial.of_masked(architecture)))


def _exported(trial: Trial) -> Iterator[Found]:
    """Exported and reloaded models compute the same as masked stock models, with a cache too, of the counted sizes."""
    gone = list(dense_or_gone(trial.shape.dense))
    for architecture in _all(trial):
        with trial.exported(architecture) as model:
            with torch.inference_mode():
                yield Found("exported", architecture, distance(trial.logits(model), trial.of_masked(architecture)))
                yield Found("counted", architecture, problem=wrong_count(trial, model, architecture))
                if architecture in gone:
                    yield Found("cached", architecture, distance(*generation_logits(model, trial.tokens)))
            if architecture in gone:
                yield Found("needed", architecture, problem=unneeded_parameter(trial, model))


def _all(trial: Trial) -> list[Architecture]:
    """Architectures to compute, each once."""
    dense = trial.shape.dense
    return list(dict.fromkeys([*dense_or_gone(dense), *every_count(dense)]))


CHECKS: tuple[Check, ...] = (_names, _windows, _elastic, _smaller, _exported)


def _failed(family: Family, problem: str) -> ModelError:
    return ModelError(f"family {family.name!r} is not described rightly: {problem}; correct its description")
