"""What is told of a checkpoint before a model is made of its config."""

import json
import time
from pathlib import Path

import pytest

from prunecast.errors import ModelError
from prunecast.models.loading import DEEP
from prunecast.models.source import resolve_source


def with_depth(folder: Path, depth: int) -> str:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": depth}))
    return str(folder)


def test_many_more_layers_than_the_weights_have_are_told_by_their_headers(saved: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"config.json says 100,000 layers, and its weights have \d: correct one"):
        resolve_source(with_depth(saved, 100_000)).check_depth()
    assert time.monotonic() - started < 10


def test_few_layers_and_missing_weights_are_left_to_the_comparison_of_all_weights(saved: Path) -> None:
    resolve_source(with_depth(saved, DEEP)).check_depth()
