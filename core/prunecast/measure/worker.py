"""Workers, which do the tasks of a run: in its process or in another one, on this machine or elsewhere.

A worker is made from a job, which is plain data: the spec, the code of local plugins, and what the run expects to be
the same: versions, the model's fingerprint and the settings of all numbers. It loads the model by itself, checks all of
that, and returns plain numbers.

As a program (``python -m prunecast.measure.worker``) it reads the job and then tasks from its standard input, one line
of JSON each, and writes their results in the same way. It ends with its input, so that it does not outlive the run.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from shutil import rmtree
from tempfile import mkdtemp
from threading import Thread
from typing import Any, TextIO

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import EvaluationError, ExecutorError, PrunecastError, one_line, resource_error
from prunecast.measure.engine import Engine
from prunecast.measure.setup import NamedEvaluator, Setup, dtype_name
from prunecast.plugins.executor import Plain
from prunecast.plugins.host import PluginHost
from prunecast.plugins.isolation import reason
from prunecast.plugins.local import code_at, code_hash_of, written_code
from prunecast.progress import Progress
from prunecast.registry.recording import versions
from prunecast.spec.model import Spec, SpecContext

Changes = Mapping[tuple[int, Layer], tuple[float, float]]
"""First-order change and second-order term of changes of single layers."""


@dataclass(frozen=True)
class Task:
    """A piece of work for one worker.

    Attributes:
        named: the evaluator.
        architecture: the architecture to measure or, with changes, the expansion point.
        changes: changes of single layers to estimate; empty for an evaluation.
    """

    named: NamedEvaluator
    architecture: Architecture
    changes: tuple[tuple[int, Layer], ...] = ()

    @cached_property
    def key(self) -> tuple[str, Architecture, bool]:
        """Setting and architecture, and whether changes are estimated: the same for the same work."""
        return self.named.setting.key, self.architecture, bool(self.changes)

    def to_plain(self) -> dict[str, Any]:
        """The task as plain data."""
        return {
            "setting": self.named.setting.key,
            "architecture": [list(layer) for layer in self.architecture.layers],
            "changes": [[layer, *kept] for layer, kept in self.changes],
        }


def job_of(setup: Setup) -> dict[str, Any]:
    """Plain data from which a worker for a set-up is made."""
    content = json.loads(setup.spec.settled(setup.source.revision, dtype_name(setup.dtype)).to_json())
    # A worker does neither, and either could need something that the worker's machine lacks.
    content |= {"plugins": [], "export": None, "recover": None}
    content["model"] |= {"device": setup.device.type}
    return {
        "spec": content,
        "plugins": [
            {"path": str(path.absolute()), "code_hash": code_hash_of(path), "code": code_at(path)}
            for path in setup.host.local
        ],
        "versions": versions(),
        "origins": _origins(setup),
        "fingerprint": setup.model_record.fingerprint,
        "settings": {key: named.setting.evaluator.name for key, named in _by_key(setup).items()},
    }


class Worker:
    """Does tasks with one elastic model.

    Args:
        setup: model, pruner and evaluators.
        engine: the measuring engine; it loads the model when it is first needed.
    """

    def __init__(self, setup: Setup, engine: Engine) -> None:
        self._setup, self._engine, self._named = setup, engine, _by_key(setup)

    @classmethod
    def of(cls, job: Plain, scratch: Path) -> "Worker":
        """A worker that is ready to measure.

        Args:
            job: the result of :func:`job_of`.
            scratch: folder for the code of local plugins that are missing here.

        Raises:
            ExecutorError: something here differs from the run.
            PrunecastError: the model, the data or a plugin is missing here.
        """
        _check_versions(job["versions"])
        host = PluginHost.discover()
        for plugin in job["plugins"]:
            host.add_local(_place_of(plugin, scratch))
        spec = Spec.model_validate_json(json.dumps(job["spec"]), context=SpecContext(host))
        setup = Setup(spec, host)
        _check_same(job, setup)
        engine = Engine(setup, Progress(quiet=True))
        _ = engine.elastic
        return cls(setup, engine)

    def do(self, task: Plain) -> dict[str, Any]:
        """Do a task.

        Returns:
            ``device`` and ``versions``; with them ``failed``, the reason why the architecture cannot be measured, or
            ``seconds`` and either ``measurements`` (name of the metric, value, standard error, count) or, for a task
            with changes, ``changes`` (layer, what it keeps, and the two terms).

        Raises:
            PrunecastError: neither this task nor any other can be done.
        """
        named = self._named[task["setting"]]
        architecture = Architecture([tuple(layer) for layer in task["architecture"]])
        about: dict[str, Any] = {"device": str(self._setup.device), "versions": versions()}
        if task["changes"]:
            changes = [(layer, Layer(*kept)) for layer, *kept in task["changes"]]
            found, seconds = self._engine.sensitivities(architecture, named, changes)
            rows = [[layer, *kept, *terms] for (layer, kept), terms in found.items()]
            return about | {"seconds": seconds, "changes": rows}
        self._engine.observe(named)  # an evaluator that cannot look at the dense model ends the run
        try:
            measurements, seconds = self._engine.measure(architecture, named)
        except EvaluationError as error:
            return about | {"failed": str(error)}
        measured: list[list[Any]] = [
            [each.metric.name, each.value, each.standard_error, each.count] for each in measurements
        ]
        return about | {"seconds": seconds, "measurements": measured}


def _by_key(setup: Setup) -> dict[str, NamedEvaluator]:
    return {named.setting.key: named for named in (*setup.uncompensated_verifiers, *setup.verifiers)}


def _origins(setup: Setup) -> dict[str, str]:
    """Distribution and version of each installed plugin that decides a number, by kind and name."""
    uses = [setup.spec.pruner, *setup.spec.evaluators, *setup.spec.verify.evaluators]
    installed = [(use, origin) for use in uses if (origin := setup.origin(use)).code_hash is None]
    return {f"{use.kind} {use.use!r}": str(origin) for use, origin in installed}


def _check_versions(expected: Mapping[str, str]) -> None:
    """Raise ExecutorError for another version of a library; its build, such as +cu128, may be another."""
    for name, here in versions().items():
        wanted = expected[name]
        if name != "python" and here.partition("+")[0] != wanted.partition("+")[0]:
            raise ExecutorError(f"it has {name} {here}, the run {wanted}: install the same version on both")


def _check_same(job: Plain, setup: Setup) -> None:
    here, wanted = setup.model_record.fingerprint, job["fingerprint"]
    if here != wanted:
        raise ExecutorError(f"its model {setup.source.name} is another one, {here[:8]} and not {wanted[:8]}")
    for plugin, origin in job["origins"].items():
        if (found := _origins(setup).get(plugin)) != origin:
            raise ExecutorError(f"it has {plugin} of {found}, the run of {origin}: install the same version on both")
    for key, name in job["settings"].items():
        if key not in _by_key(setup):
            raise ExecutorError(
                f"it would measure something else by {name!r}: its texts, or the version of a plugin, are not the run's"
            )


def _place_of(plugin: Plain, scratch: Path) -> Path:
    """Path of a local plugin: the run's path if the same code is found there, else that of a copy."""
    path = Path(plugin["path"])
    if path.exists() and code_hash_of(path) == plugin["code_hash"]:
        return path
    return written_code(plugin["code"], scratch / plugin["code_hash"], path)


def main() -> None:
    """Read the job and tasks as JSON lines from standard input, and write results, until the input ends."""
    lines: SimpleQueue[str] = SimpleQueue()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output that plugins print must not mix with the results
    scratch = Path(mkdtemp(prefix="prunecast-worker-"))
    Thread(target=_read, args=(sys.stdin, lines, scratch), daemon=True).start()
    try:
        worker = Worker.of(json.loads(lines.get()), scratch)
    except Exception as error:  # noqa: BLE001  # any error is reported to the run
        _write(answers, {"refused": refusal(error)})
        rmtree(scratch, ignore_errors=True)
        return
    _write(answers, {"ready": True})
    while True:
        _write(answers, answer(worker, json.loads(lines.get())))


def refusal(error: Exception) -> str:
    """Reason, in one line, why a worker cannot be made."""
    return one_line(error) if isinstance(error, PrunecastError) else reason(error)


def answer(worker: Worker, task: Plain) -> dict[str, Any]:
    """Result of a task or, if neither it nor any other can be done, its ``error``."""
    try:
        return worker.do(task)
    except PrunecastError as error:
        return {"error": str(error), "class": type(error).__name__}
    except Exception as error:  # noqa: BLE001  # an unexpected error ends the run, as it does without workers
        known = resource_error(error)
        return {"error": str(known) if known else reason(error), "class": "ResourceError" if known else "ExecutorError"}


def _read(stream: TextIO, lines: "SimpleQueue[str]", scratch: Path) -> None:
    for line in stream:
        lines.put(line)
    rmtree(scratch, ignore_errors=True)
    os._exit(0)  # the run has ended, and nobody waits for the current task


def _write(stream: TextIO, message: Plain) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
