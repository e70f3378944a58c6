"""A registry with two runs of one model at two budgets; all its numbers are defined here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from workplace import SMOLLM2

from prunecast.architecture.architecture import Architecture
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry import ModelRecord, PluginRecord, Registry, Setting
from prunecast.report.facts import Facts
from prunecast.spec.load import load_spec

METRICS = {"python-docs.validation.ppl": 1024, "python-docs.test.ppl": 4096}
FINGERPRINT = "0123456789abcdef" * 2
DENSE = "3x3+1536*30"
SEARCHED, VERIFIED = METRICS
MEASURED = {
    DENSE: (21.5, 16.6),
    "3x3+1536*3 3x2+1037*25 3x3+1536*2": (41.8, 35.4),
    "3x3+1536*3 3x3+909*25 3x3+1536*2": (38.5, 31.25),
    "3x3+1536*3 3x3+910*24 3x3+896 3x3+1536*2": (37.25, 31.0),
    "3x3+1536*3 3x2+1300*25 3x3+1536*2": (30.5, 24.5),
    "3x3+1536*3 3x3+1170*25 3x3+1536*2": (28.0, 22.25),
    "3x3+1536*3 3x3+1172*24 0+1400 3x3+1536*2": (27.5, 22.5),
}
BUDGETS = (107_612_006, 121_063_507)
FOUND, MILDER = list(MEASURED)[3], list(MEASURED)[6]


def setting(metric: str) -> Setting:
    """The perplexity behind a metric."""
    options = {"dataset": "python-docs", "split": metric.split(".")[1], "tokens": METRICS[metric]}
    return Setting(
        model=ModelRecord(FINGERPRINT, "smollm2-135m", SMOLLM2),
        pruner=PluginRecord("taylor", 1, {"compensate": {"method": "least-squares"}}, "c" * 32, "prunecast 0.1.0"),
        evaluator=PluginRecord("perplexity", 1, options, "d" * 32, "prunecast 0.1.0"),
        dtype="bfloat16",
    )


def candidate(name: str, text: str, **more: Any) -> dict[str, Any]:
    """A row of a result."""
    parameters = int(SMOLLM2.count([Architecture.parse(text)])[0])
    metrics = dict(zip(METRICS, MEASURED[text], strict=True))
    row = {"name": name, "architecture": text, "parameters": parameters, "metrics": metrics}
    return {**row, "parameters_without_embeddings": parameters - SMOLLM2.embeddings, **more}


def result(number: int, budget: int, uniform: str, uniform_mlp: str, best: str, **more: Any) -> dict[str, Any]:
    """The result of a run."""
    found = candidate("best", best, predicted={SEARCHED: 36.5})
    return {
        "run": number,
        "name": "quickstart",
        "model": {"source": "smollm2-135m", "fingerprint": FINGERPRINT, "dtype": "bfloat16"},
        "budget": {"parameters": budget},
        "dense": candidate("dense", DENSE),
        "baselines": [candidate("uniform", uniform), candidate("uniform-mlp", uniform_mlp)],
        "best": found,
        "verified": [found],
        "predictor": {"use": "gbdt", "pairs": 20, "r2": 0.5, "kendall_tau": 0.5},
        "evaluations": {"measured": 14, "cached": 0},
        "seconds": 12.5,
        "export": None,
        **more,
    }


def extras() -> dict[str, Any]:
    """Additional result parts of a run with a predictor evaluation and a recovered model."""
    scores = {"r2": 0.875, "mse": 0.125, "rmse": 0.354, "mae": 0.25, "kendall_tau": 0.75, "spearman_rho": 0.875}
    scores |= {"regret": 0.0625, "coverage_68": 0.75, "coverage_95": 0.9375, "calibration_error": 0.0625}
    held_out = {"measured": [3.2, 3.4, 3.7, 3.5, 3.9, 3.3], "predicted": [3.25, 3.4, 3.6, 3.55, 3.8, 3.35]}
    recovered = candidate("recovered", FOUND)
    recovered["metrics"] = {SEARCHED: 31.0, VERIFIED: 24.8}
    options = {"method": "lora", "dataset": "alpaca", "batch": 64, "seed": 0, "targets": ["query", "down"]}
    return {
        "quality_card": {
            **{"predictor": "gbdt", "pairs": 20, "held_out": 6, "splits": 10, "top": 1},
            "metrics": {SEARCHED: scores},
            "overall": scores,
            "objective": scores,
            "learning_curve": [{"pairs": n, "r2": n / 16, "kendall_tau": n / 20} for n in (4, 8, 14)],
            "first_split": {SEARCHED: held_out | {"std": [0.1] * 6}},
        },
        "importances": [
            {"choice": f"{part}.{layer}", "component": part, "layers": [layer], "shares": {SEARCHED: share}}
            for layer, shares in enumerate(((0.5, 0.125), (0.25, 0.125)), 3)
            for part, share in zip(("attention", "mlp"), shares, strict=True)
        ],
        "rounds": [{"round": 1, "pairs": 14, "rule": "greedy", "chosen": [chosen(FOUND, 36.5), chosen(MILDER, 27.0)]}],
        "recovery": {
            **{"method": "lora", "options": options, "dtype": "float32", "examples": 9000, "steps": 4},
            **{"losses": [2.5, 2.25, 2.125, 2.0], "seconds": 60.0, "after": recovered},
        },
    }


def chosen(text: str, predicted: float) -> dict[str, Any]:
    """An architecture chosen in a round."""
    measured = {SEARCHED: MEASURED[text][0]}
    return {"architecture": text, "parameters": 1, "predicted": {SEARCHED: predicted}, "std": {}, "measured": measured}


def finish_run(registry: Registry, number: int, budget: int, names: Sequence[str], **more: Any) -> None:
    """Record a run at a budget with its uniform, uniform-mlp and best architectures; ``more``: extra result parts."""
    spec = load_spec("quickstart", PluginHost.discover(), (f"budget.parameters={budget}", f"seed={number - 1}"))
    run = registry.start_run(spec.key, spec.name, spec.to_json(), "model: {source: smollm2-135m}\n").id
    for text in (DENSE, *names):
        for metric, value in zip(METRICS, MEASURED[text], strict=True):
            stage = "pairs" if metric == SEARCHED else "verify"
            measurement = Measurement(Metric(metric, "minimize", "perplexity", "log"), value, None, METRICS[metric])
            registry.record(run, stage, setting(metric), Architecture.parse(text), [measurement], 2.5, "cpu")
    registry.finish_run(run, "finished", result(number, budget, *names, **more))


@pytest.fixture
def written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry, as ``registry.db`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    texts = list(MEASURED)
    with Registry.open(tmp_path / "registry.db") as registry:
        finish_run(registry, 1, BUDGETS[0], texts[1:4], **extras())
        finish_run(registry, 2, BUDGETS[1], texts[4:7])
    return tmp_path / "registry.db"


@pytest.fixture
def run_again(written_down: Path) -> Path:
    """The registry with two more runs at run 1's budget; their best are its uniform-mlp and uniform architectures."""
    _, even, even_mlp, *_ = MEASURED
    with Registry.open(written_down) as registry:
        finish_run(registry, 3, BUDGETS[0], [even, even_mlp, even_mlp])
        finish_run(registry, 4, BUDGETS[0], [even, even_mlp, even])
    return written_down


@pytest.fixture
def compared_with(tmp_path: Path) -> Callable[[Sequence[str]], Facts]:
    """Makes the facts of a run with baselines of these names."""
    texts = list(MEASURED)

    def facts(names: Sequence[str]) -> Facts:
        baselines = [candidate(name, texts[1 + place % 6]) for place, name in enumerate(names)]
        with Registry.open(tmp_path / "registry.db") as registry:
            finish_run(registry, 1, BUDGETS[0], texts[1:4], baselines=baselines)
            return Facts(registry, registry.run(1))

    return facts
