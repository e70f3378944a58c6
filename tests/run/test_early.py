"""What export, recovery, report and the last output can refuse is refused before anything is measured, where it can be.

``RAISED`` lists every error of these rooms: with the case below that shows it in the preflight, or the reason why it
cannot be known there.
"""

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from workplace import SPEC, Workplace

PACKAGE = Path(__file__).parents[2] / "core" / "prunecast"

ROOMS = ("export/*.py", "owned/*.py", "recover/*.py", "report/*.py", "run/delivery.py", "run/export_again.py")

RECOVER = {"method": "distill", "dataset": "calibration.txt", "samples": 2, "tokens": 32, "steps": 1, "batch": 1}


def _file(folder: Path) -> None:
    (folder / "out").write_text("mine")


def _foreign(folder: Path) -> None:
    (folder / "out" / "tiny").mkdir(parents=True)
    (folder / "out" / "tiny" / "config.json").write_text("{}")


def _of_another(folder: Path) -> None:
    from prunecast.owned.manifest import Manifest, Origin

    (target := folder / "out" / "tiny").mkdir(parents=True)
    (target / "architecture.json").write_text("{}")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # SHA-256 of {}
    manifest = Manifest(Origin("other", {"model": "f" * 32}), {"architecture.json": digest}, {})
    (target / "prunecast_export.json").write_text(manifest.to_json())


def _nothing(folder: Path) -> None:
    pass


CASES: Mapping[str, tuple[dict[str, Any], Callable[[Path], None], str]] = {
    "a file in the way": ({}, _file, "is a file, no folder"),
    "files of others": ({}, _foreign, "config.json"),
    "another export": ({}, _of_another, "holds the export"),
    "empty path": ({"export": {"path": " "}}, _nothing, "empty path"),
    "name in the path": ({"name": "a/b", "export": {"path": "out/{name}"}}, _nothing, "cannot be a part of a path"),
    "no path": ({"export": {"path": "out/\0"}}, _nothing, "no path to write to"),
    "another dtype after recovery": (
        {"recover": RECOVER, "export": {"path": "out/tiny", "dtype": "bfloat16"}},
        _nothing,
        "a recovered model is written in the dtype",
    ),
    "text of the recovery missing": ({"recover": RECOVER | {"dataset": "gone.txt"}}, _nothing, "gone.txt"),
    "text of the recovery too short": ({"recover": RECOVER | {"samples": 10**6}}, _nothing, "recover: data set"),
    "instructions missing": ({"recover": {"method": "lora", "dataset": "gone.jsonl", "steps": 1}}, _nothing, "gone"),
}

LATE = "known only once files are written or weights are trained: "

PUSHED = "a command of its own, not the end of a run; name, network and login are asked first there"

RAISED: Mapping[tuple[str, str], str] = {
    ("export/deliver.py", "_verified"): "asked for by export alone, not by a run",
    ("export/huggingface.py", "_disk_errors"): f"{LATE}the disk",
    ("export/huggingface.py", "_compared"): f"{LATE}compares the written model; every family is in tests/export",
    ("export/push.py", "_check_card"): PUSHED,
    ("export/push.py", "_check_place"): PUSHED,
    ("export/push.py", "_export"): PUSHED,
    ("export/push.py", "_make_public"): PUSHED,
    ("export/push.py", "_one_line"): PUSHED,
    ("export/push.py", "_publish"): PUSHED,
    ("export/push.py", "check_destination"): PUSHED,
    ("export/stock.py", "limits"): "asked by spec validate: tests/problem/test_limits.py",
    (
        "export/stock.py",
        "_with_biases",
    ): "asked by spec validate: biases of compensation in tests/problem/test_limits.py",
    ("owned/folder.py", "check"): "files of others",
    ("owned/folder.py", "check_room"): "room: tests/owned/test_folder.py; asked in the preflight with the budget",
    ("owned/folder.py", "_check_place"): "a file in the way",
    ("owned/folder.py", "_check_subject"): "another export",
    ("owned/folder.py", "_check_reserved"): "files of others",
    ("owned/folder.py", "_one_line"): f"{LATE}the disk or a permission that is taken away; asked first in check",
    ("owned/folder.py", "_changes"): f"{LATE}files that others write while the run measures; asked first in check",
    ("owned/folder.py", "_ordered"): f"{LATE}files that others write while the run measures; asked first in check",
    ("owned/folder.py", "_locked"): f"{LATE}another process that writes at the same moment",
    ("owned/journal.py", "exchange"): f"{LATE}the disk",
    ("owned/journal.py", "finish"): "files of others",
    ("owned/journal.py", "_rename_to_nothing"): f"{LATE}files that others write at the same moment",
    ("owned/location.py", "located"): "empty path",
    ("recover/adapters.py", "check_installed"): "asked before measuring by run, not by a dry run: tests/recover",
    ("recover/adapters.py", "attach"): f"{LATE}which projections are left is found by the search",
    ("recover/recover.py", "check_recovery"): "asked before measuring by run, not by a dry run: tests/recover",
    ("recover/recover.py", "recover"): f"{LATE}the evaluator fails on the trained model",
    ("recover/training.py", "_check_finite"): f"{LATE}the loss",
    ("report/facts.py", "__init__"): "a command of its own, not the end of a run",
    ("report/page.py", "_check_installed"): "a command of its own, not the end of a run; asked first there",
    ("run/delivery.py", "_check_engines"): "asked for by export alone, not by a run",
    ("run/delivery.py", "written_setup"): "another dtype after recovery",
    ("run/export_again.py", "export_again"): "a command of its own, not the end of a run; asked first there",
    ("run/export_again.py", "_check_numbers"): "a command of its own, not the end of a run",
    ("run/export_again.py", "_check_dtype"): "a command of its own, not the end of a run; asked first there",
    ("run/export_again.py", "_check_limits"): "a command of its own, not the end of a run; asked first there",
    ("run/export_again.py", "_targets"): "a command of its own, not the end of a run; asked first there",
    ("run/export_again.py", "_find"): "a command of its own, not the end of a run; asked first there",
}


def _raising() -> set[tuple[str, str]]:
    """Module and function of every error raised in the rooms; errors raised again as they are do not count."""
    found = set()
    for file in sorted(file for pattern in ROOMS for file in PACKAGE.glob(pattern)):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(
                isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) for node in ast.walk(function)
            ):
                found.add((file.relative_to(PACKAGE).as_posix(), function.name))
    return found


def test_every_error_is_listed() -> None:
    assert _raising() == set(RAISED)
    reasons = {why for why in RAISED.values() if why not in CASES}
    assert all(len(why) > 30 for why in reasons), "a case that is not there, or no reason"


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_before_anything_is_measured_and_by_the_dry_run(workplace: Workplace, name: str) -> None:
    changes, prepare, message = CASES[name]
    workplace.write_spec("early", {"export": {"path": "out/tiny"}} | changes)
    prepare(workplace.folder)
    before = sorted(path.relative_to(workplace.folder) for path in workplace.folder.rglob("*"))
    for arguments in (("run", "early.yaml", "--dry-run"), ("run", "early.yaml", "--quiet")):
        outcome = workplace.prunecast(*arguments)
        assert outcome.code == 1, (arguments, outcome)
        assert message in outcome.stderr, arguments
        assert "Traceback" not in outcome.stderr
    assert workplace.sql("SELECT count(*) FROM evaluations") == [(0,)]
    after = {path.relative_to(workplace.folder) for path in workplace.folder.rglob("*")}
    assert {path for path in after - set(before) if not path.name.startswith("registry.db")} == set()


def test_the_text_of_the_recovery_is_part_of_the_identity_of_a_run(workplace: Workplace) -> None:
    changes = {"recover": RECOVER, "collect": {"pairs": 4}, "rounds": 1, "per_round": 1, "verify": {"top": 1}}
    text = (workplace.folder / "calibration.txt").read_text()
    (workplace.folder / "other.txt").write_text(text)
    workplace.write_spec("early", changes | {"recover": RECOVER | {"dataset": "other.txt"}, "baselines": []})
    assert workplace.prunecast("run", "early.yaml", "--quiet").code == 0
    (workplace.folder / "other.txt").write_text(text[::-1])
    outcome = workplace.prunecast("export", "1", "again")
    assert outcome.code == 1
    assert "changed since: the text of the recovery" in outcome.stderr
    assert json.loads(workplace.sql("SELECT identity_json FROM runs")[0][0])["the text of the recovery"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": SPEC["space"] | {"layers": "0:99"}}, "space.layers '0:99' exceeds the model's 4 layers"),
        ({"budget": {"parameters": 0.01}}, "budget"),
    ],
)
def test_a_spec_is_validated_against_the_config_of_its_model(
    workplace: Workplace, changes: dict[str, Any], message: str
) -> None:
    assert workplace.prunecast("spec", "validate", "tiny.yaml").stderr == ""
    workplace.write_spec("wrong", changes)
    outcome = workplace.prunecast("spec", "validate", "wrong.yaml")
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert message in outcome.stderr


def test_a_spec_whose_model_is_elsewhere_is_valid_and_says_what_was_not_compared(workplace: Workplace) -> None:
    workplace.write_spec("elsewhere", {"model": {"source": "gone/model"}})
    outcome = workplace.prunecast("spec", "validate", "elsewhere.yaml")
    assert outcome.code == 0
    assert outcome.stderr == "not compared with the config of gone/model, which is not on this machine\n"
