"""Runs with streamed weights: the results of ordinary runs, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest
from workplace import SPEC, Workplace

BESIDE = ("seconds", "bytes", "prefill", "decode")
"""Parts of names in a result: times and speeds differ from run to run, and bytes count the spec, which names the placement."""


def without_times(value: Any) -> Any:
    """A result without times, and without the size of files."""
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if not any(part in key for part in BESIDE)}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def streamed(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec with the weights streamed."""
    return spec | {"model": SPEC["model"] | {"placement": "stream"}}


TEXT = {"dataset": "calibration.txt", "samples": 3, "tokens": 48}
KL = {"use": "kl", "dataset": "validation.txt", "tokens": 256, "context": 64, "batch": 2}
CHANGES: dict[str, dict[str, Any]] = {
    "taylor": {},
    "least squares on the same text": {"pruner": {"use": "obs", "calibration": TEXT, "compensate": "least-squares"}},
    "bias on another text": {
        "pruner": {
            "use": "flap",
            "calibration": TEXT,
            "compensate": {"method": "bias", "calibration": TEXT | {"samples": 5}},
        },
        "evaluators": [*SPEC["evaluators"], KL],
        "baselines": ["uniform", "uniform-mlp-uncompensated"],
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_result_is_that_of_an_ordinary_run(name: str, workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = CHANGES[name]
    results, weights = [], []
    for number, spec in enumerate((changes, streamed(changes))):
        monkeypatch.setenv("PRUNECAST_CACHE", str(workplace.folder / f"cache{number}"))
        workplace.registry.unlink(missing_ok=True)
        workplace.write_spec("tiny", spec)
        outcome = workplace.prunecast("run", "tiny.yaml", "--json", "--overwrite")
        assert outcome.code == 0, outcome.stderr
        results.append(without_times(outcome.json))
        weights.append((workplace.folder / "out/tiny/model.safetensors").read_bytes())
    assert results[1] == results[0]
    assert weights[1] == weights[0]
