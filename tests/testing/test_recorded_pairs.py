"""The recorded pairs equal those of the repository's registry. RENEW_GOLDEN=1 exports them again."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import REPOSITORY

from prunecast.architecture.architecture import Architecture
from prunecast.registry import Registry
from prunecast.testing import recorded_pairs

RECORDED = REPOSITORY / "core/prunecast/testing/recorded.json"
METRICS = ("wikitext2.validation.ppl", "ptb.validation.ppl")
COUNT = 60
STATEMENT = """
SELECT architecture_key AS key, layers_json, metric, value, pruner_options_json AS pruner, dtype,
    json_extract(evaluator_options_json, '$.tokens') AS tokens
FROM metric_measurements
WHERE model = 'smollm2-135m' AND evaluator = 'perplexity' AND metric IN (?, ?) AND tokens = 4096
    AND json_extract(pruner_options_json, '$.compensate.method') = 'least-squares'
ORDER BY architecture_key
"""
SHAPE = "SELECT shape_json FROM models WHERE source = 'smollm2-135m'"
CONDITIONS = (
    "SmolLM2-135M in bfloat16, pruner taylor with least-squares compensation, first 4,096 tokens of the validation "
    "text in windows of 512; natural logarithms of perplexities"
)


def export(path: Path) -> dict[str, Any]:
    """All architectures with measurements of both metrics, ordered by key."""
    found: dict[str, dict[str, Any]] = {}
    with Registry.open(path, readonly=True) as registry:
        for row in registry.rows(STATEMENT, METRICS):
            entry = found.setdefault(row["key"], {"architecture": str(Architecture.from_json(row["layers_json"]))})
            entry[row["metric"]] = row["value"]
        [shape] = {row["shape_json"] for row in registry.rows(SHAPE)}
    complete = [entry for entry in found.values() if set(METRICS) <= set(entry)]
    pairs = [
        {"architecture": entry["architecture"], "targets": [round(math.log(entry[metric]), 6) for metric in METRICS]}
        for entry in complete
    ]
    return {"conditions": CONDITIONS, "metrics": METRICS, "shape": json.loads(shape), "pairs": pairs}


def test_recorded_pairs_equal_those_of_the_shipped_registry(tmp_path: Path) -> None:
    source = REPOSITORY / "registry.db"
    if not source.is_file():
        pytest.skip("registry.db is not here")
    copy = tmp_path / "registry.db"
    copy.write_bytes(source.read_bytes())
    exported = json.loads(json.dumps(export(copy)))
    if "RENEW_GOLDEN" in os.environ:
        head = {key: value for key, value in exported.items() if key != "pairs"}
        rows = ",\n".join(json.dumps(row) for row in exported["pairs"][:COUNT])
        RECORDED.write_text(json.dumps(head)[:-1] + f', "pairs": [\n{rows}\n]}}\n')
    recorded = json.loads(RECORDED.read_text())
    assert [row for row in recorded["pairs"] if row not in exported["pairs"]] == []
    assert recorded | {"pairs": None} == exported | {"pairs": None}


def test_recorded_pairs_have_valid_architectures_and_finite_targets() -> None:
    recorded = recorded_pairs()
    assert (len(recorded.architectures), recorded.targets.shape) == (COUNT, (COUNT, 2))
    assert len(set(recorded.architectures)) == COUNT
    assert np.isfinite(recorded.targets).all()
    assert {len(architecture.layers) for architecture in recorded.architectures} == {len(recorded.shape.dense.layers)}
    with pytest.raises(ValueError, match="read-only"):
        recorded.targets[0, 0] = 0
