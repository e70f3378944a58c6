"""A run in a container whose home and caches cannot be written."""

import os
import subprocess
import sys

import pytest
from workplace import Workplace


@pytest.mark.slow
def test_a_run_without_writable_caches_finishes_and_says_so_once(workplace: Workplace) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prunecast", "run", "tiny.yaml", "--quiet"],
        cwd=workplace.folder,
        env={
            **os.environ,
            **dict.fromkeys(("HOME", "HF_HOME", "PRUNECAST_CACHE"), "/proc/nope"),
            "PYTHONIOENCODING": "cp1252",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    )
    (warning,) = done.stderr.decode("cp1252").splitlines()
    assert warning.startswith("warning: the cache /proc/nope cannot be written (")
    assert done.returncode == 0
    assert b"\na sentence    " in done.stdout
    assert workplace.sql("SELECT status FROM runs") == [("finished",)]
    assert (workplace.folder / "out" / "tiny" / "model.safetensors").is_file()
