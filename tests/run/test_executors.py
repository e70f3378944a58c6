"""Runs by other executors: the same architectures and numbers as in one process, whatever happens to workers."""

import json
import os
import shutil
import signal
import sys
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import lethal
import psutil
import pytest
from workplace import EVALUATIONS, Workplace

from prunecast.plugins.host import PluginHost
from prunecast.spec.load import load_spec

OF_THE_MACHINE = ("seconds", "workers", "run", "export", "exports", "evaluations")


def comparable(result: dict[str, Any]) -> str:
    """A result without what depends on the machine and on the order of its work."""
    return json.dumps({name: value for name, value in result.items() if name not in OF_THE_MACHINE}, sort_keys=True)


def harmful(workplace: Workplace, mood: str, **changes: Any) -> None:
    """Write ``lethal.yaml``, a spec with the evaluator of that mood as a local plugin."""
    shutil.copy(lethal.__file__, workplace.folder / "lethal.py")
    evaluators = [{"use": "lethal", "dataset": "validation.txt", "tokens": 256, "context": 64, "mood": mood}]
    spec = {"plugins": ["lethal.py"], "evaluators": evaluators, "verify": {"top": 2}, "export": None, **changes}
    workplace.write_spec("lethal", spec)


def workers_of(process: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process).children(recursive=True)
        if "prunecast.measure.worker" in child.cmdline()
    ]


def test_two_processes_choose_what_one_chooses(workplace: Workplace) -> None:
    local = workplace.prunecast("run", "tiny.yaml", "--json", "--registry", "local.db")
    assert local.code == 0, local.stderr
    spread = workplace.prunecast(
        "run", "tiny.yaml", "--json", "--registry", "spread.db", "--executor", "processes", "--overwrite"
    )
    assert spread.code == 0, spread.stderr
    assert comparable(spread.json) == comparable(local.json)
    assert spread.json["evaluations"] == local.json["evaluations"]
    workers = spread.json["workers"]
    assert workers["executor"] == "processes"
    assert sum(workers["answered"].values()) == EVALUATIONS
    assert workers["lost"] == {}
    assert "workers" not in local.json
    assert workers_of(os.getpid()) == []


@pytest.mark.slow
def test_sensitivities_of_workers_are_those_of_one_process(workplace: Workplace) -> None:
    arguments = ("run", "tiny.yaml", "--json", "--set", "neighbours=2", "--set", "export=null")
    local = workplace.prunecast(*arguments, "--registry", "local.db")
    spread = workplace.prunecast(*arguments, "--registry", "spread.db", "--executor", "processes")
    assert spread.code == 0, spread.stderr
    assert comparable(spread.json) == comparable(local.json)


@pytest.mark.slow
def test_a_run_that_finds_all_numbers_starts_no_worker(workplace: Workplace) -> None:
    arguments = ("run", "tiny.yaml", "--json", "--set", "export=null", "--executor", "processes")
    workplace.prunecast(*arguments)
    again = workplace.prunecast(*arguments)
    assert again.json["workers"]["answered"] == {}


@pytest.mark.parametrize(("workers", "proposals"), [(1, 8), (3, 9), (8, 8), (20, 20)])
def test_automatic_rounds_give_every_worker_as_much(workers: int, proposals: int, workplace: Workplace) -> None:
    with chdir(workplace.folder):
        assert load_spec("tiny.yaml", PluginHost.discover(), ["per_round=auto"]).proposals(workers) == proposals


@pytest.mark.slow
def test_killed_workers_cost_nothing_but_what_was_in_flight(workplace: Workplace) -> None:
    harmful(workplace, "sometimes")
    outcome = workplace.prunecast("run", "lethal.yaml", "--json", "--executor", "processes")
    assert outcome.code == 0, outcome.stderr
    workers = outcome.json["workers"]
    assert workers["lost"]["gone"] >= 2
    assert "is lost at" in outcome.stderr
    assert "it was ended by signal 9; another one does it" in outcome.stderr
    assert workplace.sql("SELECT count(*) FROM failures") == [(0,)]
    assert sum(workers["answered"].values()) == outcome.json["evaluations"]["measured"]
    assert workplace.sql("SELECT count(*) FROM evaluations") == [(outcome.json["evaluations"]["measured"],)]
    harmful(workplace, "")
    shutil.move(workplace.registry, workplace.folder / "other.db")
    peaceful = workplace.prunecast("run", "lethal.yaml", "--json")
    assert peaceful.json["best"]["architecture"] == outcome.json["best"]["architecture"]


@pytest.mark.slow
def test_an_architecture_that_kills_two_workers_is_filed_as_a_failure(workplace: Workplace) -> None:
    harmful(workplace, "poison")
    outcome = workplace.prunecast("run", "lethal.yaml", "--json", "--executor", "processes")
    assert outcome.code == 0, outcome.stderr
    failures = workplace.sql("SELECT reason, attempts FROM failures")
    assert failures
    assert {attempts for _, attempts in failures} == {2}
    assert all(
        reason.startswith("2 workers were lost over it, the last one: it was ended by") for reason, _ in failures
    )
    assert outcome.json["workers"]["lost"]["gone"] == 2 * len(failures)
    again = workplace.prunecast("run", "lethal.yaml", "--json", "--executor", "processes")
    assert again.json["workers"]["lost"] == {}
    assert again.json["evaluations"]["measured"] == 0


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunecast.measure.dispatch.LEAST_SECONDS", 3.0)
    harmful(workplace, "hangs")
    outcome = workplace.prunecast("run", "lethal.yaml", "--json", "--executor", "processes")
    assert outcome.code == 0, outcome.stderr
    assert outcome.json["workers"]["lost"]["hung"] >= 1
    assert workplace.sql("SELECT count(*) FROM failures") == [(0,)]


@pytest.mark.slow
def test_out_of_memory_in_a_worker_is_met_by_smaller_batches_there(workplace: Workplace) -> None:
    harmful(workplace, "memory")
    outcome = workplace.prunecast("run", "lethal.yaml", "--json", "--executor", "processes")
    assert outcome.code == 0, outcome.stderr
    assert outcome.json["workers"]["lost"] == {}
    assert workplace.sql("SELECT count(*) FROM failures") == [(0,)]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_end_of_a_run_is_the_end_of_its_workers(how: signal.Signals, workplace: Workplace) -> None:
    harmful(workplace, "slow")
    run = workplace.start("run", "lethal.yaml", "--executor", "processes")
    log = workplace.folder / "calls.log"
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 4)
    workers = workers_of(run.pid)
    assert len(workers) == 2
    run.send_signal(how)
    run.wait(20)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
    recorded = workplace.sql("SELECT count(*) FROM evaluations")[0][0]
    assert recorded >= 2
    again = workplace.prunecast("run", "lethal.yaml", "--json", "--executor", "processes")
    assert again.code == 0, again.stderr
    assert again.json["evaluations"]["measured"] == workplace.sql("SELECT count(*) FROM evaluations")[0][0] - recorded


def wait_until(happened: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.05)


def with_commands(workplace: Workplace, *commands: str) -> None:
    """Write ``commands.yaml``, a spec whose workers are started by commands."""
    from prunecast.plugins.examples import executor

    shutil.copy(executor.__file__, workplace.folder / "commands.py")
    entry = 'return [Entry("commands", f"{__name__}:Commands", "workers started by commands")]'
    with (workplace.folder / "commands.py").open("a") as file:
        file.write(
            "\n\nfrom prunecast.plugins import Entry, hookimpl\n\n\n@hookimpl\n"
            f"def prunecast_executors():\n    {entry}\n"
        )
    spec = {"plugins": ["commands.py"], "executor": {"use": "commands", "commands": list(commands)}, "export": None}
    workplace.write_spec("commands", spec)


WORKER = f"{sys.executable} -m prunecast.measure.worker"

NONSENSE = """
import json, subprocess, sys
worker = subprocess.Popen([sys.executable, "-m", "prunecast.measure.worker"], stdin=-1, stdout=-1, text=True)
marker = sys.argv[1]
for number, line in enumerate(sys.stdin):
    worker.stdin.write(line); worker.stdin.flush()
    answer = worker.stdout.readline()
    if number == 3 and not __import__("os").path.exists(marker):
        open(marker, "w").close()
        answer = "what?\\n"
    print(answer, end="", flush=True)
"""


@pytest.mark.slow
def test_a_worker_that_answers_nonsense_is_replaced_and_its_answer_not_recorded(workplace: Workplace) -> None:
    (workplace.folder / "nonsense.py").write_text(NONSENSE)
    with_commands(workplace, f"{sys.executable} nonsense.py told")
    outcome = workplace.prunecast("run", "commands.yaml", "--json")
    assert outcome.code == 0, outcome.stderr
    assert outcome.json["workers"]["lost"] == {"nonsense": 1}
    assert "answered nonsense" in outcome.stderr
    local = workplace.prunecast("run", "tiny.yaml", "--json", "--set", "export=null", "--registry", "local.db")
    assert comparable(outcome.json | {"name": "tiny"}) == comparable(local.json)


def refused(workplace: Workplace, *arguments: str) -> str:
    outcome = workplace.prunecast("run", "tiny.yaml", "--set", "export=null", *arguments)
    assert outcome.code == 1
    return outcome.stderr.splitlines()[-1]


def test_more_workers_than_cores_are_refused(workplace: Workplace) -> None:
    message = refused(workplace, "--set", "executor={use: processes, workers: 1000}")
    assert message.startswith("error: executor processes: 1000 workers, and ")
    assert " cores: set executor.workers to " in message


def test_an_unknown_executor_is_refused_with_those_that_there_are(workplace: Workplace) -> None:
    assert "no executor is called 'proceses' (did you mean 'processes'?); available:" in refused(
        workplace, "--executor", "proceses"
    )
    assert not workplace.registry.exists() or workplace.sql("SELECT count(*) FROM runs") == [(0,)]


def test_the_environment_names_an_executor_and_the_command_line_another(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNECAST_EXECUTOR", "nowhere")
    assert "no executor is called 'nowhere'" in refused(workplace)
    assert workplace.prunecast("run", "tiny.yaml", "--executor", "local").code == 0


def test_an_executor_is_no_part_of_a_run(workplace: Workplace) -> None:
    first = workplace.prunecast("run", "tiny.yaml", "--json", "--set", "executor=local").json
    again = workplace.prunecast("run", "tiny.yaml", "--json", "--set", "executor={use: processes, workers: 1}").json
    assert (again["run"], again["evaluations"]["measured"]) == (first["run"], 0)
    assert '"executor":' not in workplace.sql("SELECT spec_json FROM runs")[0][0]


def test_a_worker_with_another_version_is_refused_with_both(workplace: Workplace) -> None:
    (workplace.folder / "older.py").write_text(
        "import prunecast.registry.recording as recording, prunecast.measure.worker as worker\n"
        'worker.versions = lambda: recording.versions() | {"transformers": "4.0"}\nworker.main()\n'
    )
    with_commands(workplace, f"{sys.executable} older.py")
    outcome = workplace.prunecast("run", "commands.yaml")
    assert outcome.code == 1
    assert "error: worker 1 cannot work on this run: it has transformers 4.0, the run 5." in outcome.stderr


@pytest.mark.slow
def test_a_worker_with_another_version_of_a_plugin_is_refused_with_both(workplace: Workplace) -> None:
    (workplace.folder / "newer.py").write_text(
        "import prunecast.measure.worker as worker\nfound = worker._origins\n"
        'worker._origins = lambda setup: {plugin: "acme 2.0" for plugin in found(setup)}\nworker.main()\n'
    )
    with_commands(workplace, f"{sys.executable} newer.py")
    outcome = workplace.prunecast("run", "commands.yaml")
    assert outcome.code == 1
    assert "it has pruner 'taylor' of acme 2.0, the run of prunecast 0.1.0: install the same version" in outcome.stderr


@pytest.mark.slow
def test_a_worker_that_finds_another_model_is_refused(workplace: Workplace) -> None:
    (workplace.folder / "swap.py").write_text(
        "import prunecast.measure.worker as worker\nfound = worker.Worker.of.__func__\n"
        'other = {"fingerprint": "0" * 32}\n'
        "worker.Worker.of = classmethod(lambda cls, job, scratch: found(cls, job | other, scratch))\n"
        "worker.main()\n"
    )
    with_commands(workplace, f"{sys.executable} swap.py")
    outcome = workplace.prunecast("run", "commands.yaml")
    assert outcome.code == 1
    assert "cannot work on this run: its model" in outcome.stderr
    assert "is another one" in outcome.stderr


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-program", "worker 1 cannot be started by 'no-such-program' (No such file or directory)"),
        (
            f"{sys.executable} -c pass",
            "workers were lost with no answer in between, the last one: it ended with status 0",
        ),
    ],
)
def test_workers_that_cannot_be_had_end_the_run_in_one_line(command: str, reason: str, workplace: Workplace) -> None:
    with_commands(workplace, command)
    outcome = workplace.prunecast("run", "commands.yaml")
    assert outcome.code == 1
    assert reason in outcome.stderr.splitlines()[-1]


def test_local_plugins_travel_as_code(workplace: Workplace, tmp_path: Path) -> None:
    """The worker is where the plugin's file is not."""
    harmful(workplace, "", executor={"use": "processes", "workers": 1})
    elsewhere = tmp_path / "elsewhere"
    (workplace.folder / "hidden.py").write_text(
        "import json, pathlib, prunecast.measure.worker as worker\nfound = worker.Worker.of.__func__\n"
        "def of(cls, job, scratch):\n"
        "    for plugin in job['plugins']:\n"
        f"        plugin['path'] = {str(elsewhere)!r} + '/' + pathlib.Path(plugin['path']).name\n"
        "    return found(cls, job, scratch)\n"
        "worker.Worker.of = classmethod(of)\nworker.main()\n"
    )
    with_commands(workplace, f"{sys.executable} hidden.py")
    text = (workplace.folder / "lethal.yaml").read_text()
    text = text.replace("- lethal.py", "- lethal.py\n- commands.py")
    text = text.replace("use: processes\n  workers: 1", f"use: commands\n  commands: ['{sys.executable} hidden.py']")
    (workplace.folder / "lethal.yaml").write_text(text)
    outcome = workplace.prunecast("run", "lethal.yaml", "--json")
    assert outcome.code == 0, outcome.stderr
    assert outcome.json["workers"]["answered"]
