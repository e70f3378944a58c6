"""Processes that are killed or interrupted at any moment: running again continues, and comes to the same result."""

import random
import signal
import subprocess
import time

from workplace import EVALUATIONS, Workplace

ARGUMENTS = ("run", "tiny.yaml", "--json", "--quiet", "--set", "export=null")
LONG = ("--set", "evaluators.0.tokens=3000", "--set", "verify.evaluators.0.tokens=2000")
"""Evaluations long enough for a signal to fall into one."""


def evaluations(workplace: Workplace) -> int:
    """How many there are; none as long as the registry is being made."""
    if not workplace.registry.exists():
        return 0
    tables = workplace.sql("SELECT count(*) FROM sqlite_master WHERE name = 'evaluations'")
    return workplace.sql("SELECT count(*) FROM evaluations")[0][0] if tables[0][0] else 0


def signal_after(
    process: "subprocess.Popen[str]", number: int, workplace: Workplace, wanted: int, pause: float
) -> None:
    """Send a signal ``pause`` seconds after the registry holds so many evaluations."""
    while process.poll() is None and evaluations(workplace) < wanted:
        time.sleep(0.003)
    time.sleep(pause)
    process.send_signal(number)


def test_killed_at_any_moment_a_run_continues_measures_nothing_twice_and_finds_the_same(workplace: Workplace) -> None:
    rng = random.Random(0)
    for wanted in (1, rng.randrange(4, 12), rng.randrange(14, 20)):
        process = workplace.start(*ARGUMENTS, *LONG)
        signal_after(process, signal.SIGKILL, workplace, wanted, rng.uniform(0.0, 0.03))
        assert (*process.communicate(timeout=60), process.returncode) == ("", "", -signal.SIGKILL)
    kept = evaluations(workplace)
    assert 14 <= kept < EVALUATIONS
    assert workplace.sql("SELECT status FROM runs") == [("running",)]

    continued = workplace.prunecast(*ARGUMENTS, *LONG).json
    assert continued["evaluations"] == {"measured": evaluations(workplace) - kept, "cached": kept}
    assert workplace.sql("SELECT status FROM runs") == [("finished",)]

    workplace.registry.unlink()
    uninterrupted = workplace.prunecast(*ARGUMENTS, *LONG).json
    assert uninterrupted["evaluations"] == {"measured": EVALUATIONS, "cached": 0}
    for part in ("dense", "baselines", "best", "verified", "predictor"):
        assert continued[part] == uninterrupted[part]


def test_ctrl_c_ends_in_one_line_and_130_and_the_run_continues_later(workplace: Workplace) -> None:
    process = workplace.start(*ARGUMENTS, *LONG)
    signal_after(process, signal.SIGINT, workplace, 5, 0.0)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    # A terminal has written ^C; click begins a new line after it.
    assert stderr.removeprefix("\n") == "interrupted: what was measured is kept, run the same command to continue\n"
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
