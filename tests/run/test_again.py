"""A finished run that is run again, and exports that are refused, fail or stand in the way."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from workplace import EVALUATIONS, Outcome, Workplace

Finished = tuple[Workplace, Outcome]
RUN = ("run", "tiny.yaml", "--quiet")


@pytest.fixture
def exported(finished: Finished, continued: Workplace) -> Workplace:
    """A workplace with the registry and the export of a finished run, whose times are long ago."""
    shutil.copytree(finished[0].folder / "out", continued.folder / "out")
    moved = f"result_json = replace(result_json, '{finished[0].folder}', '{continued.folder}')"
    execute(continued, f"UPDATE runs SET {moved}")
    execute(continued, "UPDATE runs SET started_utc = '2020-01-01T00:00:00Z', finished_utc = '2020-01-01T01:00:00Z'")
    return continued


def execute(workplace: Workplace, statement: str) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(workplace.registry)) as connection, connection:
        connection.execute(statement)


def state(workplace: Workplace) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Status and times of the run, and its result."""
    ((*times, result),) = workplace.sql("SELECT status, started_utc, finished_utc, result_json FROM runs")
    return tuple(times), json.loads(result)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in folder.rglob("*")}


def test_a_finished_run_that_is_run_again_changes_neither_its_record_nor_its_export(exported: Workplace) -> None:
    target = exported.folder / "out" / "tiny"
    (target / "NOTES.md").write_text("mine")
    (target / "README.md").write_text("my card")
    before, files = state(exported), stamps(target)
    outcome = exported.prunecast(*RUN)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert f"0 measured, {EVALUATIONS} from the registry" in outcome.stdout
    assert f"unchanged in  {target}" in outcome.stdout
    assert state(exported) == before
    assert before[0] == ("finished", "2020-01-01T00:00:00Z", "2020-01-01T01:00:00Z")
    assert before[1]["evaluations"] == {"measured": EVALUATIONS, "cached": 0}
    assert stamps(target) == files


def test_a_finished_run_without_its_export_keeps_the_record_of_it(exported: Workplace) -> None:
    before = state(exported)
    assert exported.prunecast(*RUN, "--set", "export=null").code == 0
    assert state(exported) == before
    assert before[1]["export"]["folder"]


def test_a_new_export_of_a_finished_run_is_recorded(exported: Workplace) -> None:
    before = state(exported)
    assert exported.prunecast(*RUN, "--set", "export.path=~/{name}-again", "--set", "name=small").code == 0
    folder = Path("~/small-again").expanduser()
    try:
        after = state(exported)
        assert (folder / "config.json").is_file()
        assert after[1]["export"]["folder"] == str(folder)
        assert after[0] == before[0]
        assert after[1]["evaluations"] == before[1]["evaluations"]
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (("budget.parameters=0.7",), "holds the export of run 'tiny', of another spec"),
        (("export.path=out/tiny/config.json",), "config.json is a file, no folder"),
        (("export.path=out/{name}", "name=../x"), "cannot be a part of a path"),
        (("export.path=/proc/1/out",), "/proc/1/out cannot be written"),
    ],
)
def test_a_target_that_cannot_be_written_is_told_before_anything_is_measured(
    exported: Workplace, changes: tuple[str, ...], part: str, dry: tuple[str, ...]
) -> None:
    before, files = exported.sql("SELECT count(*) FROM evaluations"), stamps(exported.folder / "out")
    options = [option for change in (*changes, "seed=7") for option in ("--set", change)]
    outcome = exported.prunecast(*RUN, *options, *dry)
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert part in outcome.stderr
    assert exported.sql("SELECT count(*) FROM evaluations") == before
    assert stamps(exported.folder / "out") == files


@pytest.mark.slow
def test_another_size_replaces_an_export_only_with_overwrite(exported: Workplace) -> None:
    target = exported.folder / "out" / "tiny"
    (target / "q8.gguf").write_text("mine")
    size = ("--set", "budget.parameters=0.7", "--set", "rounds=1")
    assert exported.prunecast(*RUN, *size).code == 1
    outcome = exported.prunecast(*RUN, *size, "--overwrite", "--json")
    assert outcome.code == 0, outcome.stderr
    assert outcome.json["export"]["parameters"] == outcome.json["best"]["parameters"]
    assert (target / "q8.gguf").read_text() == "mine"
    listed = json.loads((target / "prunecast_export.json").read_text())
    assert listed["origin"]["subject"]["architecture"] == outcome.json["best"]["architecture"]


@pytest.mark.slow
def test_an_export_that_fails_at_the_end_costs_no_result(exported: Workplace) -> None:
    """The run's own other architecture stands in its target, which is known only when the run is through."""
    best = state(exported)[1]["best"]["architecture"]
    assert exported.prunecast("export", "1", "out/tiny", "--architecture", "4x2+24*4", "--overwrite").code == 0
    execute(exported, "UPDATE runs SET status = 'failed', result_json = NULL")
    outcome = exported.prunecast(*RUN)
    assert (outcome.code, outcome.stderr.count("\n")) == (1, 1)
    assert "of another architecture" in outcome.stderr
    (status, _, _), result = state(exported)
    assert (status, result["best"]["architecture"], result["export"]) == ("failed", best, None)
    elsewhere = exported.prunecast("export", "1", "elsewhere", "--json")
    assert (elsewhere.code, elsewhere.json["parameters"]) == (0, result["best"]["parameters"])


def test_an_export_is_made_again_without_making_the_model(exported: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the weights gone from memory's reach: the folder of the rankings is empty and nothing fills it again."""
    empty = exported.folder / "empty-cache"
    monkeypatch.setenv("PRUNECAST_CACHE", str(empty))
    outcome = exported.prunecast("export", "1", "out/tiny")
    assert (outcome.code, "unchanged" in outcome.stdout) == (0, True)
    assert not (empty / "rankings").exists()


def test_a_sentence_that_fails_is_a_warning(exported: Workplace) -> None:
    """A file lies where loaded modelling code is copied to, so that the sentence fails after all has been written."""
    (modules := exported.folder / "modules").mkdir()
    (modules / "transformers_modules").touch()
    environment = {**os.environ, "HF_MODULES_CACHE": str(modules), "PRUNECAST_REGISTRY": "registry.db"}
    arguments = [sys.executable, "-m", "prunecast", *RUN]
    done = subprocess.run(arguments, cwd=exported.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: no sentence of the exported model (")
    assert done.stderr.count("\n") == 1
    assert "a sentence" not in done.stdout


def test_a_disk_without_room_is_told_before_anything_is_measured(exported: Workplace) -> None:
    """A real small disk, where this machine allows to mount one."""
    disk = exported.folder / "disk"
    disk.mkdir()
    mounted = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=16k tmpfs disk && exec "$@"', "sh"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*mounted, "true"], cwd=exported.folder, capture_output=True, check=False).returncode
    ):
        pytest.skip("no mounts on this machine")
    command = [sys.executable, "-m", "prunecast", *RUN, "--dry-run", "--set", "export.path=disk"]
    environment = {**os.environ, "PRUNECAST_REGISTRY": "registry.db"}
    done = subprocess.run(
        [*mounted, *command], cwd=exported.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "disk has 16 kB free, the export needs about" in done.stderr
