"""Cost of ten additional plugins in ``--help`` and ``plugins list``: minimum seconds of several processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HOOK = """
from prunecast.plugins import Entry, hookimpl


@hookimpl
def prunecast_predictors():
    return [Entry("p{number}", "plugin_{number}:P", "made up")]
"""


def install(site: Path, number: int) -> None:
    (site / f"plugin_{number}.py").write_text(HOOK.format(number=number))
    metadata = site / f"plugin_{number}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{number}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[prunecast]\nplugin_{number} = plugin_{number}\n")


def best_seconds(environment: dict[str, str], *arguments: str) -> float:
    taken = []
    for _ in range(7):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "prunecast", *arguments], env=environment, capture_output=True, check=True
        )
        taken.append(time.perf_counter() - start)
    return min(taken)


def test_help_and_list_with_ten_plugins(tmp_path: Path, report: Callable[[str], None]) -> None:
    for number in range(10):
        install(tmp_path, number)
    ten = os.environ | {"PYTHONPATH": str(tmp_path)}
    for name, arguments in (("--help", ("--help",)), ("plugins list", ("plugins", "list"))):
        without, with_ten = best_seconds(dict(os.environ), *arguments), best_seconds(ten, *arguments)
        report(f"{name:13} seconds, bundled plugins only {without:.2f}, ten more {with_ten:.2f}")
