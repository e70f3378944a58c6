"""The executor ``processes``: workers are processes of this machine, one a GPU, or sharing its cores."""

import os
import sys
from collections.abc import Callable, Sequence
from itertools import count

from pydantic import Field

from prunecast.errors import ExecutorError
from prunecast.plugins import Executor, Plain, PluginOptions, WorkerEvent, WorkerProcesses

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables of the number of threads of the libraries that multiply matrices."""

COMMAND = (sys.executable, "-P", "-m", "prunecast.measure.worker")
"""Starts a worker; the current folder holds none of its modules."""


class ProcessesOptions(PluginOptions):
    """Options of the executor ``processes``."""

    workers: int | None = Field(
        None, ge=1, description="Number of workers; one a GPU or, on the CPU, one a core, if not given."
    )
    threads: int | None = Field(
        None, ge=1, description="Threads of each worker; the cores are shared out evenly if not given."
    )


class Processes(Executor[ProcessesOptions]):
    """Workers with a process each; of GPUs, each worker has one."""

    options_model = ProcessesOptions

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        """Start all workers.

        Raises:
            ExecutorError: there are fewer cores or GPUs than workers.
        """
        self._job, self._numbers, self._processes = job, count(1), WorkerProcesses()
        self._slots: dict[str, int] = {}
        self._on_gpus = job["spec"]["model"]["device"] != "cpu"
        places = _gpus() if self._on_gpus else _cores()
        workers = self.options.workers or places
        if workers > places:
            kind = "GPUs" if self._on_gpus else "cores"
            raise ExecutorError(
                f"executor processes: {workers} workers, and {places} {kind}: set executor.workers to {places} or less"
            )
        self._threads = self.options.threads or max(1, _cores() // workers)
        for slot in range(workers):
            self._add(slot)

    def _add(self, slot: int) -> None:
        name = str(next(self._numbers))
        environment = {**os.environ, **dict.fromkeys(THREADS, str(self._threads))}
        if self._on_gpus:
            environment["CUDA_VISIBLE_DEVICES"] = _visible(slot)
        self._slots[name] = slot
        self._processes.add(name, COMMAND, self._job, environment)

    def send(self, worker: str, task: Plain) -> None:
        """Write the task to the worker."""
        self._processes.send(worker, task)

    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """What has come in; a worker that is gone is replaced."""
        events = self._processes.events(seconds)
        for event in events:
            if event.what == "gone":
                self.stop(event.worker)
        return events

    def stop(self, worker: str) -> None:
        """Kill a worker and start another one in its place."""
        self._processes.stop([worker])
        self._add(self._slots.pop(worker))

    def close(self) -> None:
        """End all workers."""
        self._processes.close()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> int:
    import torch

    return int(torch.accelerator.device_count())


def _visible(slot: int) -> str:
    """Name of a GPU in ``CUDA_VISIBLE_DEVICES`` of a worker, among those that this process may see."""
    mine = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return mine.split(",")[slot] if mine else str(slot)
