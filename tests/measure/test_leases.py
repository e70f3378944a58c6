"""Two concurrent processes with one spec: every evaluation is made once, and both results are equal."""

import os
import subprocess
import sys
from contextlib import chdir
from typing import Any

import pytest
from counted import LOG
from places import SUPPORT
from workplace import EVALUATIONS, Workplace


@pytest.mark.slow
def test_two_processes_with_one_spec_share_the_evaluations(workplace: Workplace) -> None:
    evaluators = [
        {"use": "counted", "dataset": name, "split": split, "tokens": 256, "context": 64}
        for name, split in (("validation.txt", "validation"), ("test.txt", "test"))
    ]
    verify = {"top": 2, "evaluators": evaluators[1:]}
    workplace.write_spec("counted", {"evaluators": evaluators[:1], "verify": verify, "export": None})
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    command = [sys.executable, "-c", "import counted; counted.main()"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, cwd=workplace.folder, env=environment, **pipes) for _ in range(2)]
    outputs = [each.communicate(timeout=200) for each in runs]
    assert [each.returncode for each in runs] == [0, 0], outputs
    best, counts = zip(*(stdout.strip().split("|") for stdout, _ in outputs), strict=True)
    assert len(set(best)) == 1
    with chdir(workplace.folder):
        lines = LOG.read_text().splitlines()
    assert len(lines) == EVALUATIONS
    assert sum(map(int, counts)) == EVALUATIONS
    assert all(int(count) > 0 for count in counts), "one process did everything: the test has shown nothing"
    assert workplace.sql("SELECT count(*) FROM evaluations") == [(EVALUATIONS,)]
    assert workplace.sql("SELECT count(*) FROM leases") == [(0,)]
