"""Two real processes that run one spec at once: every evaluation is made once, and both come to the same result."""

import os
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

from places import SUPPORT
from workplace import EVALUATIONS, Workplace

from prunecast.plugins.hookspecs import Entry, hookimpl
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import Measurement
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.run.runner import run
from prunecast.spec.load import load_spec
from prunecast_plugins.evaluators.perplexity import Perplexity

LOG = Path("evaluations.log")


class Counted(Perplexity):
    """Perplexity that writes a line for every evaluation it makes."""

    def evaluate(self, model: Any) -> list[Measurement]:
        time.sleep(0.2)  # long enough for the other process to come by
        found = super().evaluate(model)
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, f"{os.getpid()} {found[0].metric.name} {found[0].value!r}\n".encode())
        os.close(log)
        return found


class CountedPlugin:
    @hookimpl
    def prunecast_evaluators(self) -> list[Entry]:
        return [Entry("counted", "test_pipeline_leases:Counted", "counts its evaluations")]


def main() -> None:
    """Run ``counted.yaml`` and print the best architecture."""
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    host = PluginHost.discover()
    host.manager.register(CountedPlugin(), "counted")
    Path(f"{os.getpid()}.ready").touch()
    while len(list(Path().glob("*.ready"))) < 2:
        time.sleep(0.01)
    with Registry.open("registry.db") as registry:
        result = run(load_spec("counted.yaml", host), host, registry, Progress(quiet=True))
    print(result.best.architecture, result.measured, sep="|")


def test_two_processes_with_one_spec_share_the_work_and_measure_nothing_twice(workplace: Workplace) -> None:
    evaluators = [
        {"use": "counted", "dataset": name, "split": split, "tokens": 256, "context": 64}
        for name, split in (("validation.txt", "validation"), ("test.txt", "test"))
    ]
    verify = {"top": 2, "evaluators": evaluators[1:]}
    workplace.write_spec("counted", {"evaluators": evaluators[:1], "verify": verify, "export": None})
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path])}
    command = [sys.executable, "-c", "import test_pipeline_leases as test; test.main()"]
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
