"""Killed and interrupted processes: a resumed run continues and gives the same result."""

import random
import signal
import subprocess
import time

import pytest
from workplace import EVALUATIONS, Workplace

ARGUMENTS = ("run", "tiny.yaml", "--json", "--quiet", "--set", "export=null")
LONG = ("--set", "evaluators.0.tokens=3000", "--set", "verify.evaluators.0.tokens=2000")
"""Options that make an evaluation long enough for a signal to arrive during one."""


def evaluations(workplace: Workplace) -> int:
    """Number of recorded evaluations; 0 while the registry is being created."""
    if not workplace.registry.exists():
        return 0
    tables = workplace.sql("SELECT count(*) FROM sqlite_master WHERE name = 'evaluations'")
    return workplace.sql("SELECT count(*) FROM evaluations")[0][0] if tables[0][0] else 0


def signal_after(
    process: "subprocess.Popen[str]", number: int, workplace: Workplace, wanted: int, pause: float
) -> None:
    """Send a signal ``pause`` seconds after the registry holds ``wanted`` evaluations."""
    while process.poll() is None and evaluations(workplace) < wanted:
        time.sleep(0.003)
    time.sleep(pause)
    process.send_signal(number)


@pytest.mark.slow
def test_a_killed_run_resumes_without_repeated_evaluations(workplace: Workplace) -> None:
    rng = random.Random(0)
    for wanted in (1, rng.randrange(4, 12), rng.randrange(14, 20)):
        process = workplace.start(*ARGUMENTS, *LONG)
        signal_after(process, signal.SIGKILL, workplace, wanted, rng.uniform(0.0, 0.03))
        assert (*process.communicate(timeout=60), process.returncode) == ("", "", -signal.SIGKILL)
    kept = evaluations(workplace)
    assert 14 <= kept < EVALUATIONS
    assert [run["status"] for run in workplace.prunecast("runs", "list", "--json").json] == ["interrupted"]

    continued = workplace.prunecast(*ARGUMENTS, *LONG).json
    assert continued["evaluations"] == {"measured": evaluations(workplace) - kept, "cached": kept}
    assert workplace.sql("SELECT status FROM runs") == [("finished",)]

    workplace.registry.unlink()
    uninterrupted = workplace.prunecast(*ARGUMENTS, *LONG).json
    assert uninterrupted["evaluations"] == {"measured": EVALUATIONS, "cached": 0}
    for part in ("dense", "baselines", "best", "verified", "predictor"):
        assert continued[part] == uninterrupted[part]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_as_ctrl_c_does(workplace: Workplace, number: signal.Signals) -> None:
    process = workplace.start(*ARGUMENTS, *LONG)
    signal_after(process, number, workplace, 5, 0.0)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (128 + number, "")
    assert stderr == "interrupted: all measurements so far are kept; run the same command again to continue\n"
    kept = evaluations(workplace)
    assert workplace.sql("SELECT status, message FROM runs") == [("interrupted", f"ended by {number.name}")]
    assert (
        workplace.sql("SELECT count(*) FROM leases")[0][0]
        == workplace.sql("SELECT count(*) FROM run_leases")[0][0]
        == 0
    )
    continued = workplace.prunecast(*ARGUMENTS, *LONG).json
    assert continued["evaluations"] == {"measured": EVALUATIONS - kept, "cached": kept}


@pytest.mark.slow
def test_ctrl_c_exits_with_130_and_the_run_can_be_resumed(workplace: Workplace) -> None:
    process = workplace.start(*ARGUMENTS, *LONG)
    signal_after(process, signal.SIGINT, workplace, 5, 0.0)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    # Click begins a new line, because a terminal would have written ^C.
    assert (
        stderr.removeprefix("\n")
        == "interrupted: all measurements so far are kept; run the same command again to continue\n"
    )
    kept = evaluations(workplace)
    assert 5 <= kept < EVALUATIONS

    (listed,) = workplace.prunecast("runs", "list", "--json").json
    assert (listed["name"], listed["status"]) == ("tiny", "interrupted")
    assert "interrupted" in workplace.prunecast("runs", "list").stdout
    assert workplace.prunecast("runs", "show", "tiny").stdout.startswith("run 1 (tiny): interrupted.")
    refused = workplace.prunecast("export", "tiny", "elsewhere")
    assert (refused.code, refused.stderr.count("\n")) == (1, 1)
    assert "run its spec to the end first" in refused.stderr

    assert workplace.prunecast(*ARGUMENTS, *LONG).json["evaluations"] == {
        "measured": EVALUATIONS - kept,
        "cached": kept,
    }
    assert workplace.prunecast("runs", "list", "--json").json[0]["status"] == "finished"
