"""Events of a run, the event log, and failing listeners."""

import io
import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from moody import MoodyPlugin
from workplace import EVALUATIONS, SPEC, Workplace

from prunecast.errors import EvaluationError
from prunecast.plugins.host import PluginHost
from prunecast.plugins.listeners import EventLog
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.run import runner
from prunecast.run.runner import run
from prunecast.spec.load import load_spec

Events = list[dict[str, Any]]


def run_logged(workplace: Workplace, *arguments: str) -> tuple[dict[str, Any], Events]:
    """Result of a run of ``tiny.yaml``, and the lines of its event log."""
    log = workplace.folder / "run.jsonl"
    log.unlink(missing_ok=True)
    outcome = workplace.prunecast(
        "run", "tiny.yaml", "--json", "--set", "export=null", "--events", "run.jsonl", *arguments
    )
    assert outcome.code == 0, outcome.stderr
    return outcome.json, [json.loads(line) for line in log.read_text().splitlines()]


def named(events: Events, name: str) -> Events:
    return [event for event in events if event["event"] == name]


def test_events_are_in_order_and_agree_with_the_result(workplace: Workplace) -> None:
    result, events = run_logged(workplace)
    flow = [event["event"] for event in events if event["event"] != "architecture_measured"]
    round_by_round = ["predictor_fitted", *["round_finished", "predictor_fitted"] * SPEC["rounds"]]
    assert flow == ["run_started", *round_by_round, "run_finished"]
    assert {event["run"] for event in events} == {result["run"]}
    assert [event["time_utc"] for event in events] == sorted(event["time_utc"] for event in events)

    started, finished = events[0], events[-1]
    assert (started["spec_name"], started["resumed"], started["budget"]) == ("tiny", False, result["budget"])
    assert started["spec"]["rounds"] == SPEC["rounds"]
    assert (finished["status"], finished["message"], finished["result"]) == ("finished", "", result)
    assert [event["pairs"] for event in named(events, "predictor_fitted")] == [12, 15, 18]
    assert named(events, "round_finished")[-1]["best_architecture"] == result["best"]["architecture"]


def test_every_new_evaluation_has_one_event(workplace: Workplace) -> None:
    _, events = run_logged(workplace)
    measured = [event for event in named(events, "architecture_measured") if not event["cached"]]
    rows = workplace.prunecast("registry", "query", "--limit", "1000", "--json").json
    recorded = [
        (row["architecture"], column, value, row["parameters"])
        for row in rows
        for column, value in row.items()
        if column.endswith(".ppl") and value is not None
    ]
    told = [
        (event["architecture"], metric, value, event["parameters"])
        for event in measured
        for metric, value in event["metrics"].items()
    ]
    assert len(measured) == EVALUATIONS
    assert sorted(told) == sorted(recorded)
    assert all(event["seconds"] > 0 for event in measured)


def test_a_resumed_run_reports_cached_evaluations(continued: Workplace) -> None:
    result, events = run_logged(continued)
    told = named(events, "architecture_measured")
    assert events[0]["resumed"]
    assert {event["cached"] for event in told} == {True}
    assert {event["seconds"] for event in told} == {None}
    assert len({(event["architecture"], *event["metrics"]) for event in told}) == result["evaluations"]["cached"]


def test_a_failed_run_reports_the_reason(workplace: Workplace) -> None:
    evaluator = SPEC["evaluators"][0] | {"use": "moody", "mood": "hopeless"}
    workplace.write_spec("hopeless", {"evaluators": [evaluator], "verify": {"top": 1}, "export": None})
    host, log = PluginHost.discover(), io.StringIO()
    host.manager.register(MoodyPlugin())
    host.manager.register(EventLog(log), "the event log")
    with (
        chdir(workplace.folder),
        Registry.open("registry.db") as registry,
        pytest.raises(EvaluationError) as error,
    ):
        run(load_spec("hopeless.yaml", host), host, registry, Progress(quiet=True))
    first, last = (json.loads(line) for line in log.getvalue().splitlines())
    assert first["event"] == "run_started"
    assert (last["event"], last["status"], last["result"]) == ("run_finished", "failed", None)
    assert last["message"] == str(error.value)


def test_a_run_with_an_unexpected_exception_is_reported_as_failed(
    continued: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: object) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(runner, "fit", breaks)
    with pytest.raises(RuntimeError, match="device-side"):
        continued.prunecast("run", "tiny.yaml", "--quiet", "--set", "export=null", "--events", "run.jsonl")
    last = json.loads((continued.folder / "run.jsonl").read_text().splitlines()[-1])
    message = "RuntimeError: device-side assert triggered"
    assert (last["event"], last["status"], last["message"]) == ("run_finished", "failed", message)
    assert continued.sql("SELECT status, message FROM runs") == [("failed", message)]


LISTENER = """
from pathlib import Path
from prunecast.plugins.hookspecs import hookimpl

@hookimpl
def prunecast_run_started(event):
    Path("heard.txt").write_text(f"{event.spec_name} {event.run}")

@hookimpl
def prunecast_architecture_measured():
    raise SystemExit("no space left")

@hookimpl
def prunecast_run_finished(event):
    Path("heard.txt").write_text("should be deaf by now")
"""


def install_listener(site: Path, source: str) -> None:
    """Install a distribution ``acme-tracker`` with one module into ``site``."""
    (site / "acme_tracker.py").write_text(source)
    metadata = site / "acme_tracker-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-tracker\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[prunecast]\nacme = acme_tracker\n")


def test_a_failing_listener_causes_one_warning_with_its_name(
    continued: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = continued.prunecast("run", "tiny.yaml", "--json", "--set", "export=null").json
    install_listener(tmp_path, LISTENER)
    monkeypatch.syspath_prepend(tmp_path)
    result, events = run_logged(continued)
    assert (result["best"], result["evaluations"]) == (expected["best"], expected["evaluations"])
    assert events[-1]["event"] == "run_finished"
    [warning] = [record.getMessage() for record in caplog.records if "acme" in record.getMessage()]
    assert "acme-tracker" in warning
    assert "architecture_measured" in warning
    assert "no space left" in warning
    assert (continued.folder / "heard.txt").read_text() == "tiny 1"


def test_an_event_log_that_cannot_be_written_is_a_usage_error(continued: Workplace) -> None:
    outcome = continued.prunecast("run", "tiny.yaml", "--events", "no/such/folder/run.jsonl")
    assert outcome.code == 2
    assert "No such file or directory" in outcome.stderr
