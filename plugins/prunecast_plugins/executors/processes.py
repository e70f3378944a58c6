"""The executor ``processes``: workers are processes of this machine, one a GPU, or sharing its cores."""

import os
import sys
from collections.abc import Iterable

from pydantic import Field

from prunecast.errors import ExecutorError
from prunecast.plugins import Place, Plain, PluginOptions, ProcessExecutor

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


class Processes(ProcessExecutor[ProcessesOptions]):
    """Workers with a process each; of GPUs, each worker has one."""

    options_model = ProcessesOptions

    def places(self, job: Plain) -> Iterable[Place]:
        """A GPU for each worker, or some of the cores.

        Raises:
            ExecutorError: there are fewer cores or GPUs than workers.
        """
        on_gpus = job["spec"]["model"]["device"] != "cpu"
        places = _gpus() if on_gpus else _cores()
        workers = self.options.workers or places
        if workers > places:
            kind = "GPUs" if on_gpus else "cores"
            raise ExecutorError(
                f"executor processes: {workers} workers, and {places} {kind}: set executor.workers to {places} or less"
            )
        threads = self.options.threads or max(1, _cores() // workers)
        environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
        for slot in range(workers):
            visible = {"CUDA_VISIBLE_DEVICES": _visible(slot)} if on_gpus else {}
            yield Place(COMMAND, environment | visible)


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
