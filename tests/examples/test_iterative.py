"""The example of pruning in two steps: its specs are valid, and lead to a model of both steps."""

import shutil
from pathlib import Path

import pytest
from places import REPOSITORY
from workplace import Workplace

FOLDER = REPOSITORY / "examples" / "iterative"

SMALL = {
    "space.layers": "0:4",
    "pruner.calibration.dataset": "calibration.txt",
    "pruner.calibration.samples": "2",
    "pruner.calibration.tokens": "32",
    "pruner.compensate.calibration": "[{dataset: calibration.txt, samples: 2, tokens: 32}]",
    "evaluators.0.dataset": "validation.txt",
    "evaluators.0.tokens": "256",
    "evaluators.0.context": "64",
    "verify.evaluators.0.dataset": "test.txt",
    "verify.evaluators.0.tokens": "256",
    "verify.evaluators.0.context": "64",
    "searcher.trials": "10",
    "collect": "{pairs: 8}",
    "rounds": "1",
    "per_round": "2",
}
"""Texts and numbers for the tiny model."""


def run(workplace: Workplace, name: str, **changes: str) -> None:
    """Run a spec of the example on small texts."""
    shutil.copy(FOLDER / f"{name}.yaml", workplace.folder)
    settings = [word for key, value in {**SMALL, **changes}.items() for word in ("--set", f"{key}={value}")]
    outcome = workplace.prunecast("run", f"{name}.yaml", *settings)
    assert outcome.code == 0, outcome.stderr


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_specs_are_valid(file: Path, workplace: Workplace) -> None:
    outcome = workplace.prunecast("spec", "validate", str(file))
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith(f"{file.stem} is valid")


@pytest.mark.slow
def test_the_second_step_prunes_what_the_first_trained(workplace: Workplace) -> None:
    recover = "{method: distill, dataset: calibration.txt, samples: 4, tokens: 32, steps: 2, batch: 2, dtype: float32}"
    run(workplace, "ninety", **{"model.source": "model", "model.dtype": "float32", "recover": recover})
    run(workplace, "eighty", **{"budget.parameters": "0.9", "model.dtype": "float32"})
    shown = workplace.prunecast("runs", "show", "eighty").stdout
    assert "of which run ninety kept" in shown
    assert "and trained it" in shown
