"""A small registry; all its content is defined here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workplace import SMOLLM2

from prunecast.architecture.architecture import Architecture
from prunecast.plugins.interfaces import Measurement, Metric
from prunecast.registry import ModelRecord, PluginRecord, Registry, Setting

MEASURED = {
    "3x3+1536*30": (28.8161, 64.9324),
    "3x3+1536*3 0+768 3x2+512*24 3x3+1536*2": (112.5, None),
    "3x3+1536*3 3x2+1024*25 3x3+1536*2": (41.25, 90.125),
}
SPEC_TEXT = "model: {source: smollm2-135m} # and so on\n"


def setting(dataset: str) -> Setting:
    """Perplexity of the test text of ``dataset``."""
    options = {"dataset": dataset, "split": "test", "tokens": 16384}
    return Setting(
        model=ModelRecord("0123456789abcdef" * 2, "smollm2-135m", SMOLLM2),
        pruner=PluginRecord("taylor", 1, {}, "c" * 32, "prunecast 0.1.0"),
        evaluator=PluginRecord("perplexity", 1, options, "d" * 32, "prunecast 0.1.0"),
        dtype="bfloat16",
    )


def candidate(name: str, text: str, **more: Any) -> dict[str, Any]:
    """A row of a result."""
    parameters = int(SMOLLM2.count([Architecture.parse(text)])[0])
    metrics = dict(zip(("wikitext2.test.ppl", "ptb.test.ppl"), MEASURED[text], strict=True))
    row = {"name": name, "architecture": text, "parameters": parameters, "metrics": metrics}
    return {**row, "parameters_without_embeddings": parameters - SMOLLM2.embeddings, **more}


def result() -> dict[str, Any]:
    """The result of the first run."""
    dense, _, best = MEASURED
    found = candidate("best", best, predicted={"wikitext2.test.ppl": 40.5, "ptb.test.ppl": 88.0})
    return {
        "run": 1,
        "name": "smollm2-80",
        "model": {"source": "smollm2-135m", "fingerprint": "0123456789abcdef" * 2, "dtype": "bfloat16"},
        "budget": {"parameters": 107612006},
        "dense": candidate("dense", dense),
        "baselines": [candidate("uniform", best)],
        "best": found,
        "verified": [found],
        "predictor": {"use": "gbdt", "pairs": 160, "r2": 0.8725, "kendall_tau": 0.75},
        "evaluations": {"measured": 5, "cached": 1},
        "seconds": 12.5,
        "export": {"folder": "out/smollm2-80", "max_logit_difference": 1.5e-06},
    }


def fill(path: Path) -> None:
    """Five numbers of three architectures, a finished and a failed run."""
    with Registry.open(path) as registry:
        run = registry.start_run("a" * 32, "smollm2-80", '{"rounds":4}', SPEC_TEXT).id
        for text, values in MEASURED.items():
            for dataset, value in zip(("wikitext2", "ptb"), values, strict=True):
                if value is not None:
                    metric = Metric(f"{dataset}.test.ppl", "minimize", "perplexity", "log")
                    measured = [Measurement(metric, value, value / 100, 16352)]
                    registry.record(run, "pairs", setting(dataset), Architecture.parse(text), measured, 2.5, "cpu")
        registry.finish_run(run, "finished", result())
        failed = registry.start_run("b" * 32, "too-small", '{"rounds":1}', SPEC_TEXT).id
        registry.finish_run(failed, "failed", None, "no architecture of the search space meets the budget")


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small registry, as ``registry.db`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "registry.db")
    (tmp_path / "drop.txt").write_text("none\nattn\nmlp\nattn+mlp\n" + "none\n" * 26)
    (tmp_path / "levels.txt").write_text("model.layers.3.self_attn.o_proj: 1\nmodel.layers.4.mlp.down_proj: 2")
    block = {"attention": {"num_key_value_heads": 3}, "ffn": {"intermediate_size": 768}}
    (tmp_path / "config.json").write_text(json.dumps({"block_configs": [block] * 30}))
    return tmp_path / "registry.db"


@pytest.fixture
def measured_twice(filled: Path) -> Path:
    """The small registry, in which another evaluator has measured the dense model's first metric as well."""
    dense, (value, _) = next(iter(MEASURED.items()))
    metric = Metric("wikitext2.test.ppl", "minimize", "perplexity", "log")
    under = setting("wikitext2")
    shorter = replace(under, evaluator=replace(under.evaluator, options={"tokens": 64}))
    with Registry.open(filled) as registry:
        measured = [Measurement(metric, value - 9, 1.0, 63)]
        registry.record(1, "pairs", shorter, Architecture.parse(dense), measured, 1.0, "cpu")
    return filled


@pytest.fixture
def theirs(filled: Path) -> Path:
    """A second registry with one equal, one conflicting and one new number."""
    path = filled.with_name("theirs.db")
    with Registry.open(path) as registry:
        run = registry.start_run("c" * 32, "theirs", "{}", "").id
        for text, value in (("3x3+1536*30", 28.9), ("3x3+1536*3 3x2+1024*25 3x3+1536*2", 44.0), ("3x1+64*30", 999.0)):
            metric = Metric("wikitext2.test.ppl", "minimize", "perplexity", "log")
            measured = [Measurement(metric, value, value / 100, 16352)]
            registry.record(run, "pairs", setting("wikitext2"), Architecture.parse(text), measured, 2.5, "cpu")
    return path
