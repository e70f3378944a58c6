"""README is short, and what it tells to do works: its spec, its Python, its plugin."""

import re
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from markdown import Block, Page, pages
from workplace import TEXTS, Workplace

from prunecast.testing import check_predictor

[README] = [page for page in pages() if page.file == "README.md"]

SMALLER = {"path/to/model": "model", "tokens: 8192": "tokens: 256", "512": "64", "samples: 64": "samples: 4",
           "pairs: 40": "pairs: 12", "rounds: 3": "rounds: 1",
           "{use: evolution}": "{use: evolution, startup: 200, generations: 5}"}  # fmt: skip
"""Changes to the spec of README, for the tiny model and its short text."""


def block(page: Page, language: str, start: str) -> Block:
    [found] = [each for each in page.blocks if each.language == language and each.text.startswith(start)]
    return found


def cells(page: Page, column: int) -> list[str]:
    """Code in a column of the table of commands."""
    start = next(number for number, line in enumerate(page.lines) if line.startswith("| | command line | Python"))
    rows = [line.strip("|").split("|") for line in page.lines[start + 2 :]]
    end = next(number for number, row in enumerate(rows) if len(row) == 1)
    return [code for row in rows[:end] for code in re.findall(r"`([^`]+)`", row[column])]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Workplace:
    """A folder with the spec of README, made smaller, and a text of its own."""
    workplace = Workplace.make(tmp_path_factory.mktemp("mine"), tiny_checkpoint)
    text = block(README, "yaml", "model:").text
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    (workplace.folder / "mine.yaml").write_text(text)
    written = "".join((workplace.folder / name).read_text() for name in TEXTS)
    pieces = [written[start : start + 64] for start in range(0, len(written), 64)]
    (workplace.folder / "mine.txt").write_text("\n\n".join(pieces))
    return workplace


def test_readme_has_at_most_200_lines() -> None:
    assert len(README.lines) <= 200


def test_the_spec_of_readme_has_twelve_lines() -> None:
    assert len(block(README, "yaml", "model:").text.splitlines()) == 12


def test_python_and_command_line_of_readme_do_the_same(mine: Workplace) -> None:
    names: dict[str, Any] = {}
    with chdir(mine.folder):
        for statement in ("import prunecast", *cells(README, 2), block(README, "python", "from transformers").text):
            exec(statement, names)
    result = names["result"]
    assert result.table()["parameters"].iloc[-1] <= 0.8 * result.table()["parameters"].iloc[0]
    assert names["model"].num_parameters() == result.best.parameters
    validate, dry_run, run, show, *_ = [cell.split()[1:] for cell in cells(README, 1)]
    assert "mine is valid" in mine.prunecast(*validate).stdout
    assert "0 measured" in mine.prunecast(*run, "--quiet").stdout
    assert all(mine.prunecast(*arguments).code == 0 for arguments in (dry_run, show))


def test_the_plugin_of_readme_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nearest.py").write_text(block(README, "python", "# nearest.py").text)
    monkeypatch.syspath_prepend(tmp_path)
    import nearest

    verdicts = check_predictor(nearest.Nearest)
    assert [verdict for verdict in verdicts if verdict.outcome not in ("holds", "does not apply")] == []
    [entry] = nearest.prunecast_predictors()
    assert entry.target == "nearest:Nearest"
