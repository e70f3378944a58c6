"""The executor ``ray``: workers are actors of a Ray cluster, one a GPU, or one for some cores.

Needs ``pip install "prunecast[ray]"``. The nodes have to have the same versions of prunecast, torch and transformers,
and find the model and the data where the spec says, or on the Hub. Workers that nodes are lost with are replaced on
what is left; nodes that join later get workers, too.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pydantic import Field

from prunecast.errors import ExecutorError
from prunecast.plugins import Executor, Plain, PluginOptions, WorkerEvent

OBJECT_STORE_BYTES = 100 * 1024**2
"""Memory of Ray's object store on a machine of its own: only plain numbers go through it."""

LOOK_SECONDS = 5.0
"""Time between two looks at what the cluster has room for."""

ANSWER_SECONDS = 10.0
"""Time for the head of a cluster to accept a connection; Ray itself asks for minutes before it gives up."""


class RayOptions(PluginOptions):
    """Options of the executor ``ray``."""

    address: str | None = Field(
        None,
        description="Address of the cluster, e.g. auto, or ray://head:10001; that of the environment variable "
        "RAY_ADDRESS, or this machine alone, if not given.",
    )
    workers: int | None = Field(
        None, ge=1, description="Most workers; as many as the cluster has room for if not given."
    )
    cpus: float = Field(1, gt=0, description="Cores of each worker, which also are its threads.")
    gpus: float | None = Field(
        None, ge=0, description="GPUs of each worker; 1 if the model is measured on GPUs, else 0, if not given."
    )


class Ray(Executor[RayOptions]):
    """Workers that are actors, each with a model of its own."""

    options_model = RayOptions
    tasks_at_once = 2

    def start(self, job: Plain, here: Callable[[Plain], Plain]) -> None:
        """Connect to the cluster, and start a worker wherever there is room.

        Raises:
            ExecutorError: Ray is not installed, the cluster does not answer, or it has no room for a worker.
        """
        self._job, self._numbers = job, count(1)
        self._on_gpus = job["spec"]["model"]["device"] != "cpu"
        self._actors: dict[str, Any] = {}
        self._waiting: dict[Any, tuple[str, str]] = {}
        self._looked, self._is_own = 0.0, False
        self._ray = _imported()
        self._is_own = not self._ray.is_initialized()
        if self._is_own:
            self._connect()
        self._job_ref = self._ray.put(dict(job))
        if not self._room():
            raise ExecutorError(
                f"executor ray: the cluster has {_resources(self._ray)}, and a worker needs {self._needs()}: set "
                "executor.cpus and executor.gpus to what a node has"
            )
        self._grow()

    def _connect(self) -> None:
        address = self.options.address or os.environ.get("RAY_ADDRESS")
        settings: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        if address is None:
            settings |= {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        else:
            settings |= {"address": address}
        try:
            _reach(address)
            self._ray.init(**settings)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            line = " ".join(str(error).split())
            raise ExecutorError(
                f"executor ray: {address or 'this machine'} does not answer ({line}): start the cluster (ray start "
                "--head), or correct executor.address"
            ) from error

    def _needs(self) -> dict[str, float]:
        gpus = self.options.gpus if self.options.gpus is not None else float(self._on_gpus)
        return {"CPU": self.options.cpus, **({"GPU": gpus} if gpus else {})}

    def _room(self) -> int:
        """Workers that all nodes together have room for, those there are included."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        fitting = (min(int(node.get(what, 0) // share) for what, share in self._needs().items()) for node in nodes)
        room = sum(fitting)
        return room if self.options.workers is None else min(room, self.options.workers)

    def _grow(self) -> None:
        """Start workers until all room is taken."""
        self._looked = time.monotonic()
        needs = self._needs()
        for _ in range(self._room() - len(self._actors)):
            name = str(next(self._numbers))
            remote = self._ray.remote(Actor)
            # What is lost is decided by the run; Ray restarts and repeats nothing by itself.
            settings = {"num_cpus": needs["CPU"], "num_gpus": needs.get("GPU", 0), "max_restarts": 0}
            actor = self._actors[name] = remote.options(**settings, max_task_retries=0).remote()
            self._waiting[actor.begin.remote(self._job_ref)] = name, "ready"

    def send(self, worker: str, task: Plain) -> None:
        """Call the actor."""
        self._waiting[self._actors[worker].do.remote(dict(task))] = worker, "answer"

    def events(self, seconds: float) -> Sequence[WorkerEvent]:
        """What calls of actors have come to; new nodes and the places of lost workers get workers."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._grow()
        if not self._waiting:
            time.sleep(min(seconds, 0.2))
            return []
        waiting = list(self._waiting)
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if ready:  # and everything else that has come in by now
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        over = self._in_order(set(ready))
        # An actor that is lost takes its other call along.
        return [self._event_of(ref, *self._waiting.pop(ref)) for ref in over if ref in self._waiting]

    def _in_order(self, ready: set[Any]) -> list[Any]:
        """Calls that are over, none before an earlier one of the same actor."""
        late: set[str] = set()
        found: list[Any] = []
        for ref, (worker, _) in self._waiting.items():
            if ref in ready and worker not in late:
                found.append(ref)
            else:
                late.add(worker)
        return found

    def _event_of(self, ref: Any, worker: str, what: str) -> WorkerEvent:
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._forget(worker)
            return WorkerEvent(worker, "gone", reason=" ".join(str(error).split())[:300])
        if "refused" in answer:
            return WorkerEvent(worker, "refused", reason=answer["refused"])
        return WorkerEvent(worker, "ready") if what == "ready" else WorkerEvent(worker, "answer", answer)

    def stop(self, worker: str) -> None:
        """Kill the actor; its place is taken at the next look."""
        self._forget(worker)

    def _forget(self, worker: str) -> None:
        actor = self._actors.pop(worker, None)
        self._waiting = {ref: call for ref, call in self._waiting.items() if call[0] != worker}
        if actor is not None:
            self._ray.kill(actor)
        self._looked = 0.0

    def close(self) -> None:
        """End all workers, and the connection to the cluster if it was made here."""
        for worker in list(self._actors):
            self._forget(worker)
        if self._is_own:
            self._ray.shutdown()


class Actor:
    """A worker in an actor of Ray."""

    def begin(self, job: Plain) -> Plain:
        """Make the worker; returns its readiness, or why it cannot be made."""
        from prunecast.measure.worker import Worker, refusal

        try:
            self._worker = Worker.of(job, Path(mkdtemp(prefix="prunecast-worker-")))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told to the run
            return {"refused": refusal(error)}
        return {"ready": True}

    def do(self, task: Plain) -> Plain:
        """Do a task."""
        from prunecast.measure.worker import answer

        return answer(self._worker, task)


def _reach(address: str | None) -> None:
    """Connect to an address that has a host and a port, and let go of it again.

    Raises:
        OSError: Nothing accepts the connection.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ExecutorError('executor ray: Ray is not installed: pip install "prunecast[ray]"') from error
    return ray


def _resources(ray: Any) -> str:
    total = ray.cluster_resources()
    return f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU in {len(ray.nodes())} nodes"
