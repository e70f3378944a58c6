"""A tiny saved model, and a cache of each test's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PRUNECAST_CACHE", str(folder))
    return folder


@pytest.fixture
def saved(cache: Path, tiny_model: Callable[..., Any], tmp_path: Path) -> Path:
    """Folder of a tiny Llama with tied embeddings."""
    folder = tmp_path / "llama"
    tiny_model("llama").save_pretrained(folder)
    return folder
