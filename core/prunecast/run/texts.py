"""Texts that a run reads, by purpose, for its output and the model card."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prunecast.data import overlap, reading
from prunecast.measure.setup import NamedEvaluator, Setup, metrics_of
from prunecast.plugins.interfaces import CalibrationOptions
from prunecast.spec.recovery import DistillRecovery, Recovery

if TYPE_CHECKING:
    from prunecast.export.proof.prove import Proof

Texts = Mapping[str, Sequence[str]]
"""Names of texts, or of metrics measured on them, by purpose; a purpose without text is left out."""


def texts_of(setup: Setup) -> Texts:
    """Texts of a run.

    ``ranked_on``, ``compensated_on`` and ``recovered_on`` are texts with their split and amount; ``searched_by`` and
    ``held_out`` are metrics: those on text that the search measures, and all others.
    """
    compensate, recover = setup.pruner.options.compensate, setup.spec.recover
    seen, held_out = _by_search(setup)
    found = {
        "ranked_on": [_windows(text) for text in setup.pruner.calibration],
        "compensated_on": [] if compensate.method == "none" else [_windows(text) for text in compensate.calibration],
        "recovered_on": [] if recover is None else [_trained(recover)],
        "searched_by": [metric.name for metric in metrics_of(seen)],
        "held_out": [metric.name for metric in metrics_of(held_out)],
    }
    return {purpose: texts for purpose, texts in found.items() if texts}


def lines_of(texts: Texts) -> list[str]:
    """A line for each purpose, e.g. ``ranked on: books (calibration), 10 x 128 tokens``."""
    return [f"{purpose.replace('_', ' ')}: {'; '.join(names)}" for purpose, names in texts.items()]


def notes_of(setup: Setup) -> list[str]:
    """Sentences to show before a run: the proof of a family that is not bundled, paths found by the older rule, limits
    of speeds that are not measured yet, and tests that the search has seen."""
    seen, _ = _by_search(setup)
    tests = [
        f"{metric.name} is of text that the search measures, so it is no test of the result; to have one, search by "
        "another split, and verify on this one"
        for named in seen
        if named.text and named.text[1] == "test"
        for metric in named.metrics
    ]
    proof = proof_of(setup)
    noted = [*([str(proof)] if proof else []), *setup.spec.path_notes, *_unmeasured(setup), *tests]
    return [*noted, *_without_engine(setup)]


def _without_engine(setup: Setup) -> list[str]:
    exporters = {label: use.instance(setup.host) for label, use in setup.spec.targets.items()}
    missing = {label: exporter.missing_engine() for label, exporter in exporters.items()}
    return [f"{label} will be written and not compared: {what}" for label, what in missing.items() if what]


def _unmeasured(setup: Setup) -> list[str]:
    limited = " and ".join(setup.spec.budget.speeds)
    told = f"{limited} of the budget not counted yet: the run measures the times of the components first"
    return [told] if limited and setup.speeds is None else []


def proof_of(setup: Setup) -> "Proof | None":
    """The proof of the description of the model's family, made the first time it is used; None for a bundled one.

    Raises:
        ModelError: the description is wrong.
    """
    if setup.description is None:
        return None
    # It imports torch, which takes seconds: errors of a spec that need none are told before.
    from prunecast.export.proof.kept import proven

    return proven(setup.family, setup.source.config())


def _by_search(setup: Setup) -> tuple[list[NamedEvaluator], list[NamedEvaluator]]:
    """Verifiers on text that the search measures, and the others."""
    searched = {named.setting.key for named in setup.evaluators}
    texts = [named.text for named in setup.evaluators]
    seen: list[NamedEvaluator] = []
    held_out: list[NamedEvaluator] = []
    with reading(setup.spec.reading):
        for named in setup.verifiers:
            text = named.text
            known = named.setting.key in searched or any(text and each and overlap(text, each) for each in texts)
            (seen if known else held_out).append(named)
    return seen, held_out


def _trained(recover: Recovery) -> str:
    if isinstance(recover, DistillRecovery):
        return _windows(recover)
    return f"{recover.dataset} ({recover.split}), its instructions"


def _windows(text: CalibrationOptions | DistillRecovery) -> str:
    return f"{text.dataset} ({text.split}), {text.samples:,} x {text.tokens:,} tokens"
