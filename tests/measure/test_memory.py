"""Peak memory of a process that measures many architectures."""

import shutil
import subprocess
import sys
from typing import Any

import pytest
from places import SUPPORT
from workplace import SPEC, Workplace

SCRIPT = SUPPORT / "peak_memory.py"
SIZES = {"hidden_size": 512, "intermediate_size": 4096, "num_hidden_layers": 12, "head_dim": 64, "vocab_size": 98}
LOGITS = 1024 * SIZES["vocab_size"] * 4
"""Bytes of the logits that are in memory at one time."""


@pytest.fixture
def larger(workplace: Workplace, tiny_model: Any) -> Workplace:
    """The workplace with a random model of 83 million parameters."""
    tokenizer = (workplace.folder / "model").resolve()
    (workplace.folder / "model").unlink()
    tiny_model("llama", **SIZES).save_pretrained(workplace.folder / "model")
    for file in tokenizer.glob("*token*"):
        shutil.copy(file, workplace.folder / "model")
    changes = {"model": SPEC["model"] | {"dtype": "bfloat16"}, "pruner": "magnitude"}
    workplace.write_spec("tiny", changes | {"evaluators": [SPEC["evaluators"][0] | {"tokens": 64}]})
    return workplace


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_measuring_needs_no_second_copy_of_the_weights(larger: Workplace) -> None:
    for _ in ("the ranking is made and kept", "it is found"):
        command = [sys.executable, str(SCRIPT), "tiny.yaml"]
        done = subprocess.run(command, cwd=larger.folder, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    peak, weights = map(int, done.stdout.split())
    assert weights > 2 * 80e6
    assert 0.9 * weights < peak <= 1.25 * weights + LOGITS
