"""Runs with streamed weights: the results of ordinary runs, and what they refuse."""

import re
from typing import Any

import pytest
from workplace import SPEC, Workplace

BESIDE = ("seconds", "bytes", "prefill", "decode")
"""Parts of names in a result: times and speeds differ from run to run, and bytes count the spec with its placement."""


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


@pytest.mark.slow
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


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a pruner of whole models": ({"pruner": {"use": "random"}}, "the random pruner ranks a model with all"),
    "training": (
        {"recover": {"method": "distill", "dataset": "calibration.txt", "tokens": 64}},
        "training needs all weights",
    ),
    "sensitivities": ({"neighbours": 1}, "local sensitivities need all weights"),
    "times": (
        {"evaluators": [*SPEC["evaluators"], {"use": "latency", "prompt": 8, "generate": 2}]},
        "latency measures times",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_streaming_has_not_is_refused_before_the_run(name: str, workplace: Workplace) -> None:
    changes, reason = REFUSED[name]
    workplace.write_spec("tiny", streamed(changes))
    for arguments in (("--dry-run",), ()):
        outcome = workplace.prunecast("run", "tiny.yaml", *arguments)
        assert outcome.code != 0
        line = outcome.stderr.strip().splitlines()[-1]
        assert reason in line
        assert "set the placement to one" in line
        assert re.search(r"tiny\.yaml:\d+:\d+: ", line), "names the place"
