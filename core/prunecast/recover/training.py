"""The training loop: AdamW with warm-up, the same numbers for the same seed, and continued where it was killed."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.errors import RecoveryError
from prunecast.progress import Progress
from prunecast.recover.training_data import Lessons

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

GRADIENT_NORM = 1.0
"""Longest gradient of a step; a longer one is scaled down to it (the default of transformers' trainer)."""

PASSES = 3
"""What training on a token costs, in forward passes: one, and a backward pass that takes twice as long."""

CHECKPOINT_SECONDS = 120.0
"""Time between two checkpoints."""


@dataclass(frozen=True)
class Course:
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps.
        batch, micro_batch: examples of a step, and of one forward pass.
        learning_rate: its highest value; it rises linearly over the ``warmup`` share of the steps, then falls to zero.
        seed: decides the order of the examples and, together with the step's number, everything random in a step.
        dtype: number format of matrix products.
    """

    steps: int
    batch: int
    micro_batch: int
    learning_rate: float
    warmup: float
    seed: int
    dtype: "torch.dtype"

    @classmethod
    def steps_for(cls, epochs: float, examples: int, batch: int) -> int:
        """Steps that show every example ``epochs`` times, at least one."""
        return max(1, math.ceil(epochs * examples / batch))

    def order(self, examples: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        """Examples of each step, shape (steps, batch): one random order after another, each epoch another."""
        wanted = self.steps * self.batch
        epochs = range(math.ceil(wanted / examples))
        orders = [np.random.default_rng([self.seed, epoch]).permutation(examples) for epoch in epochs]
        return np.concatenate(orders)[:wanted].reshape(self.steps, self.batch)

    def seed_of(self, step: int) -> int:
        """Seed of what is random in one step."""
        return int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0])


@dataclass
class Log:
    """What a training tells of itself.

    Attributes:
        losses: loss of each step, nats a position.
        seconds: time it has taken, that before an interruption up to the last checkpoint included.
    """

    losses: list[float]
    seconds: float


def train(
    model: "PreTrainedModel",
    lessons: Lessons,
    course: Course,
    checkpoint: Path,
    progress: Progress,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Log:
    """Train those parameters of a model that require gradients.

    Continues from ``checkpoint`` if there is one, with the same result as without the interruption.

    Args:
        model: on its device; left in evaluation mode.
        lessons: what to train on.
        course: how long and how fast.
        checkpoint: file that holds the state of an unfinished training; removed at the end.
        progress: where to tell the loss.
        checkpoint_seconds: time between two checkpoints.

    Raises:
        RecoveryError: the loss is no finite number any more.
    """
    import torch
    import transformers

    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=course.learning_rate, weight_decay=0.0)
    untyped: Any = transformers
    schedule = untyped.get_linear_schedule_with_warmup(optimizer, round(course.warmup * course.steps), course.steps)
    log = _restore(checkpoint, parameters, optimizer, schedule)
    begun = time.monotonic() - log.seconds
    order = course.order(len(lessons))
    model.train(True)
    saved = time.monotonic()
    with torch.random.fork_rng(), progress.bar("recover", course.steps, "step") as advance:
        advance(len(log.losses))
        for step in range(len(log.losses), course.steps):
            # What is random in a step depends on its number alone, so that a training can be continued at any step.
            torch.manual_seed(course.seed_of(step))
            log.losses.append(_step(model, lessons, course, order[step].tolist(), optimizer))
            _check_finite(log.losses, course)
            schedule.step()
            advance(1)
            log.seconds = time.monotonic() - begun
            if time.monotonic() - saved > checkpoint_seconds:
                _save(checkpoint, parameters, optimizer, schedule, log)
                saved = time.monotonic()
    checkpoint.unlink(missing_ok=True)
    model.train(False)
    return log


def _step(
    model: "PreTrainedModel",
    lessons: Lessons,
    course: Course,
    examples: Sequence[int],
    optimizer: "torch.optim.Optimizer",
) -> float:
    """One optimiser step; returns its loss. Micro-batches weigh by their positions, as if they were one batch."""
    import torch

    optimizer.zero_grad(set_to_none=True)
    positions, total = lessons.count(examples), 0.0
    for start in range(0, len(examples), course.micro_batch):
        with torch.autocast(model.device.type, course.dtype, enabled=course.dtype != torch.float32):
            loss = lessons.loss(model, examples[start : start + course.micro_batch]) / positions
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, GRADIENT_NORM)
    if math.isfinite(total):
        optimizer.step()
    return total


def _check_finite(losses: Sequence[float], course: Course) -> None:
    if not math.isfinite(losses[-1]):
        raise RecoveryError(
            f"recover: the loss is {losses[-1]} at step {len(losses)} of {course.steps}: lower recover.learning_rate "
            f"(it is {course.learning_rate:g}) or raise recover.warmup (it is {course.warmup:g})"
        )


def _save(path: Path, parameters: "Mapping[str, nn.Parameter]", optimizer: Any, schedule: Any, log: Log) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    weights = {name: parameter.detach() for name, parameter in parameters.items()}
    state = {"weights": weights, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save(state | asdict(log), unfinished)
    unfinished.replace(path)


def _restore(path: Path, parameters: "Mapping[str, nn.Parameter]", optimizer: Any, schedule: Any) -> Log:
    """Put a checkpoint's state in place; returns the log so far, an empty one without a checkpoint."""
    import torch

    if not path.is_file():
        return Log([], 0.0)
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return Log(state["losses"], state.get("seconds", 0.0))  # earlier versions kept no seconds
