"""Every bad input ends in exit code 1 and one clear line; a wrong command line in exit code 2."""

import json
import re
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from workplace import EVALUATIONS, Outcome, Workplace

from prunecast.registry import Registry
from prunecast.registry.queries.stats import stats

UNEXPORTED = ("--set", "export=null")


def assert_one_line(outcome: Outcome, *parts: str) -> None:
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    assert outcome.stderr.startswith("error: ")
    for part in parts:
        assert part in outcome.stderr


# -------------------------------------------------------------------------------------------------------- specs


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("use: taylor", "use: tailor", r"\d+:8: pruner\.use: no pruner is called 'tailor' \(did you mean 'taylor'\?\)"),
        ("trees: 10", "treees: 10", r"\d+:3: predictor\.treees: unknown option.*did you mean 'trees'"),
        ("rounds: 2", "rouds: 2", r"\d+:1: rouds: unknown.*did you mean 'rounds'"),
        ("parameters: 0.8", "parameters: -1", r"\d+:15: budget\.parameters: .*greater than 0"),
        ("rounds: 2", "rounds: two", r"\d+:9: rounds: "),
    ],
)
def test_an_error_in_a_spec_is_one_line_with_its_place(workplace: Workplace, old: str, new: str, message: str) -> None:
    path = workplace.folder / "tiny.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    for command in ("run", "spec validate"):
        outcome = workplace.prunecast(*command.split(), "tiny.yaml")
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1), outcome.stderr
        assert re.match(rf"tiny\.yaml:{message}", outcome.stderr), outcome.stderr
    assert not workplace.registry.exists()


def test_all_errors_of_a_spec_are_reported_in_order_of_place(workplace: Workplace) -> None:
    path = workplace.folder / "tiny.yaml"
    text = path.read_text()
    for old, new in (
        ("use: tpe", "use: tpee"),
        ("pairs: 12", "pairs: 1"),
        ("use: layerwise", "use: layerwise\n  tye: 2"),
    ):
        text = text.replace(old, new)
    path.write_text(text)
    outcome = workplace.prunecast("run", "tiny.yaml", "--set", "rounds=0")
    assert (outcome.code, outcome.stdout) == (1, "")
    places = [
        re.match(r"(?:tiny\.yaml|--set rounds=0):(\d+):(\d+): ([\w.]+): ", line) for line in outcome.stderr.splitlines()
    ]
    assert [place and place[3] for place in places] == ["space.tye", "searcher.use", "collect.pairs", "rounds"]
    lines = [int(place[1]) for place in places[:3]]
    assert lines == sorted(lines)


# ---------------------------------------------------------------------------------------- models, data, budgets


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("budget.parameters=0.05", ["no architecture of the search space meets", "Raise the budget to at least"]),
        ("model.source=./nowhere", ["model ./nowhere", "no such folder"]),
        ("model.source=nobody/nothing", ["model nobody/nothing", "check the name"]),
        ("model.source=.", ["no config.json"]),
        ("evaluators.0.dataset=nothing.txt", ["data set nothing.txt", "no file", "correct the path"]),
        ("evaluators.0.dataset=wikitext3", ["data set 'wikitext3'", "did you mean wikitext2"]),
        ("evaluators.0.tokens=1000000", ["1,000,000 are wanted", "ask for fewer"]),
        ("evaluators.0.context=512", ["context 512 is longer than the model's", "128 or less"]),
        ("pruner.calibration.dataset=test.txt", ["test.txt", "used for calibration and for evaluation"]),
        ("pruner.calibration.dataset=./validation.txt", ["used for calibration and for evaluation"]),
        ("pruner.calibration.samples=100000", ["data set ", "split ", "100,000 windows", "ask for fewer"]),
        ("data_dir=nowhere", ["nowhere", "no such folder"]),
        ("space.layers=0:9", ["'0:9'", "4 layers"]),
        ("model.device=cuda:7", ["model.device 'cuda:7'", "use auto or cpu"]),
        ("model.device=gpu", ["model.device 'gpu' is no device"]),
        ("objective={ppl: 1}", ["objective: no evaluator measures 'ppl'", "validation.validation.ppl"]),
    ],
)
def test_unusable_models_data_and_budgets_are_one_line_before_measuring(
    workplace: Workplace, override: str, parts: list[str]
) -> None:
    assert_one_line(workplace.prunecast("run", "tiny.yaml", "--set", override), *parts)
    assert workplace.sql("SELECT count(*) FROM evaluations") == [(0,)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget={macs: 0.9, context: 129}", "budget.context: 129 is longer than the model's context: set it to 128"),
        ("budget.parameters=70", "budget.parameters: 70 would be 70 parameters; write 0.7 for 70 %"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_told_with_its_place(
    workplace: Workplace, override: str, message: str
) -> None:
    outcome = workplace.prunecast("run", "tiny.yaml", "--set", override)
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert re.match(r"--set .*:1:\d+: ", outcome.stderr)
    assert message in outcome.stderr
    assert not workplace.registry.exists() or workplace.sql("SELECT count(*) FROM evaluations") == [(0,)]


def test_a_model_that_does_not_fit_in_memory_is_one_line(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    little = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    outcome = workplace.prunecast("run", "tiny.yaml")
    assert_one_line(
        outcome, "model.placement auto: model does not fit on cpu", "more than is free; free memory, or use a"
    )
    assert workplace.prunecast("runs", "list", "--json").json == [], "it is told before the run begins"


def test_a_damaged_checkpoint_is_one_line(workplace: Workplace, tmp_path: Path) -> None:
    shutil.copytree(workplace.folder / "model", tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert_one_line(workplace.prunecast("run", "tiny.yaml", "--set", f"model.source={tmp_path / 'damaged'}"), "damaged")


# ----------------------------------------------------------------------------------------------------- registry


def text_file(path: Path) -> None:
    path.write_text("no database\n" * 100)


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


COMMANDS = {
    "run": ("run", "tiny.yaml"),
    "dry run": ("run", "tiny.yaml", "--dry-run"),
    "stats": ("registry", "stats"),
    "query": ("registry", "query"),
    "best": ("registry", "best", "validation.validation.ppl"),
    "sql": ("registry", "sql", "SELECT 1"),
    "runs list": ("runs", "list"),
    "runs show": ("runs", "show", "1"),
    "export": ("export", "1", "out/again"),
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (text_file, "no SQLite file"),
        (damaged, "damaged"),
        (newer, "schema version 99"),
        (folder, "is a folder; name a file in it"),
    ],
)
def test_an_unusable_registry_is_one_line(
    continued: Workplace, spoil: Callable[[Path], None], part: str, arguments: tuple[str, ...]
) -> None:
    spoil(continued.registry)
    assert_one_line(continued.prunecast(*arguments), "registry.db: ", part)


@pytest.mark.parametrize("arguments", list(COMMANDS.values())[2:], ids=list(COMMANDS)[2:])
def test_a_missing_registry_is_one_line_and_is_not_created(workplace: Workplace, arguments: tuple[str, ...]) -> None:
    assert_one_line(workplace.prunecast(*arguments), "there is no registry", "run a spec to make one")
    assert not workplace.registry.exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("runs", "show", "7"), "no run has the id, name or key '7'; latest runs: 1 (tiny)"),
        (("export", "nothing", "out/again"), "no run has the id, name or key 'nothing'"),
        (("registry", "query", "--model", "x"), "no model is called 'x'; it holds: model"),
        (("registry", "query", "--metric", "ppl"), "no metric is called 'ppl'"),
        (("registry", "query", "--sort", "colour"), "cannot sort by 'colour'"),
        (("registry", "query", "--run", "7"), "no run has"),
        (("registry", "best", "ppl"), "no metric is called 'ppl'"),
        (("registry", "sql", "DELETE FROM runs"), "write one SELECT statement"),
        (("registry", "sql", "SELECT colour FROM runs"), "no such column: colour"),
        (("plugins", "show", "tailor"), "no plugin is called 'tailor' (did you mean 'taylor'?)"),
    ],
)
def test_a_query_without_answer_is_one_line(continued: Workplace, arguments: tuple[str, ...], part: str) -> None:
    assert_one_line(continued.prunecast(*arguments), part)


# ------------------------------------------------------------------------------------------ folders and disks


@pytest.mark.parametrize("command", ["run", "export"])
def test_a_folder_of_another_model_is_one_line_and_is_not_changed(continued: Workplace, command: str) -> None:
    target = continued.folder / "out" / "tiny"
    target.mkdir(parents=True)
    (target / "config.json").write_text("mine")
    arguments = {"run": ("run", "tiny.yaml", "--quiet"), "export": ("export", "1", "out/tiny")}[command]
    assert_one_line(
        continued.prunecast(*arguments), "out/tiny", "config.json of another origin", "choose another folder"
    )
    assert [(file.name, file.read_text()) for file in target.iterdir()] == [("config.json", "mine")]


@contextmanager
def at_most(limit: int, amount: int) -> Iterator[None]:
    """Lower the soft limit ``limit`` of module ``resource`` to ``amount`` for this process."""
    soft, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (amount, hard))
    try:
        yield
    finally:
        resource.setrlimit(limit, (soft, hard))


def test_a_registry_file_at_its_size_limit_is_one_line_and_keeps_its_data(continued: Workplace) -> None:
    before = continued.sql("SELECT count(*) FROM evaluations")[0][0]
    with at_most(resource.RLIMIT_FSIZE, continued.registry.stat().st_size + 8192):
        outcome = continued.prunecast("run", "tiny.yaml", "--quiet", "--set", "evaluators.0.tokens=192", *UNEXPORTED)
    assert_one_line(outcome, "registry.db: the disk reports an error", "everything measured so far is kept")
    assert continued.sql("PRAGMA integrity_check") == [("ok",)]
    assert continued.sql("SELECT count(*) FROM evaluations")[0][0] >= before
    again = continued.prunecast("run", "tiny.yaml", "--json", "--set", "evaluators.0.tokens=192", *UNEXPORTED)
    assert again.code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_one_line_and_the_run_can_be_continued(workplace: Workplace, small_disk: Path) -> None:
    registry = ("--registry", str(small_disk / "registry.db"))
    Registry.open(registry[1]).close()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 200_000))
    outcome = workplace.prunecast("run", "tiny.yaml", "--quiet", *registry, *UNEXPORTED)
    assert_one_line(outcome, "the disk is full", "free some space", "everything measured so far is kept")
    with Registry.open(registry[1], readonly=True) as kept:
        count = stats(kept)["evaluations"]
    assert 0 < count < EVALUATIONS
    ballast.unlink()
    again = workplace.prunecast("run", "tiny.yaml", "--json", *registry, *UNEXPORTED)
    assert again.code == 0
    assert again.json["evaluations"] == {"measured": EVALUATIONS - count, "cached": count}


def test_weights_too_large_for_memory_are_one_line(workplace: Workplace) -> None:
    stored, large = workplace.folder / "model", workplace.folder / "large"
    shutil.copytree(stored, large)
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1 << 29], "data_offsets": [0, 1 << 31]}}).encode()
    with (large / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (1 << 31))
    assert workplace.prunecast("run", "tiny.yaml", "--dry-run").code == 0
    with at_most(resource.RLIMIT_AS, psutil.Process().memory_info().vms + (1 << 30)):
        outcome = workplace.prunecast("run", "tiny.yaml", "--quiet", "--set", "model.source=large")
    assert_one_line(outcome, "out of memory", "Cannot allocate memory", "then run again")


# ----------------------------------------------------------------------------------------------- wrong commands


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("run",),
        ("run", "tiny.yaml", "--nothing"),
        ("runs", "show"),
        ("export", "1"),
        ("registry", "best"),
        ("registry", "query", "--limit", "0"),
        ("registry", "best", "ppl", "--budget", "colour=1"),
        ("registry", "best", "ppl", "--budget", "parameters=little"),
        ("plugins", "list", "--kind", "colour"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_2_and_prints_usage(workplace: Workplace, arguments: tuple[str, ...]) -> None:
    outcome = workplace.prunecast(*arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "Usage: " in outcome.stderr
    assert "Traceback" not in outcome.stderr
