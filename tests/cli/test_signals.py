"""Signals that ask a command to end: their exit codes, and the signals that are left alone."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import signal, sys, time
signal.signal(signal.SIGHUP, {hangup})
import click
from prunecast.cli import main
from prunecast.cli.main import cli

@cli.command()
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60 if {hangup} is signal.SIG_DFL else 1)
    finally:
        time.sleep(1.0)  # the time of recording the end
        print("cleaned up", flush=True)

sys.argv = ["prunecast", "wait"]
main()
"""
"""A command that waits, then takes a second to clean up."""


def started(folder: Path, hangup: str = "signal.SIG_DFL") -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(hangup=hangup)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((signal.SIGTERM,), 143),
        ((signal.SIGHUP,), 129),
        ((signal.SIGINT,), 130),
        # A terminal that closes sends two, one of them through its shell.
        ((signal.SIGHUP, signal.SIGHUP), 129),
        ((signal.SIGTERM, signal.SIGHUP, signal.SIGTERM), 143),
    ],
    ids=str,
)
def test_a_command_cleans_up_and_exits_with_128_plus_the_signal(
    tmp_path: Path, numbers: tuple[int, ...], code: int
) -> None:
    process = started(tmp_path)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (code, "cleaned up\n")
    assert stderr.strip() == "interrupted: all measurements so far are kept; run the same command again to continue"


def test_a_command_under_nohup_survives_its_terminal(tmp_path: Path) -> None:
    process = started(tmp_path, hangup="signal.SIG_IGN")
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30) == ("cleaned up\n", "")
    assert process.returncode == 0


def test_a_terminal_that_is_gone_does_not_change_the_exit_code(tmp_path: Path) -> None:
    process = started(tmp_path)
    assert process.stderr is not None
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=30) == 129
