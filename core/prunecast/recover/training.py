"""The training loop: AdamW with warm-up, reproducible by its seed, and continued after an interruption."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecast.data import read_rows
from prunecast.errors import RecoveryError
from prunecast.owned.files import written_whole
from prunecast.progress import Progress
from prunecast.recover.training_data import TrainingData
from prunecast.spec.recovery import DistillRecovery, Recovery

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

GRADIENT_NORM = 1.0
"""Longest gradient of a step; a longer one is scaled down to it (the default of transformers' trainer)."""

PASSES = 3
"""Cost of training on a token, in forward passes: one, and a backward pass that takes twice as long."""

CHECKPOINT_SECONDS = 120.0
"""Time between two checkpoints."""


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a training.

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
        """Number of steps, at least one, that show every example ``epochs`` times."""
        return max(1, math.ceil(epochs * examples / batch))

    def order(self, examples: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        """Examples of each step, shape (steps, batch): a random order of its own for each epoch."""
        wanted = self.steps * self.batch
        epochs = range(math.ceil(wanted / examples))
        orders = [np.random.default_rng([self.seed, epoch]).permutation(examples) for epoch in epochs]
        return np.concatenate(orders)[:wanted].reshape(self.steps, self.batch)

    def seed_of(self, step: int) -> int:
        """Seed of all randomness in one step."""
        return int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0])


@dataclass
class Log:
    """Record of a training.

    Attributes:
        losses: loss of each step, nats a position.
        seconds: duration, including the time before an interruption up to the last checkpoint.
    """

    losses: list[float]
    seconds: float


def planned_steps(options: Recovery, data_dir: Path | None) -> int:
    """Optimiser steps of a recovery, by its options and the number of its examples; nothing is tokenised.

    Raises:
        DataError: the steps depend on instructions that cannot be read.
    """
    if options.steps is not None:
        return options.steps
    if isinstance(options, DistillRecovery):
        return Schedule.steps_for(options.epochs, options.samples, options.batch)
    examples = len(read_rows(options.dataset, options.split, data_dir))
    return Schedule.steps_for(options.epochs, examples, options.batch)


def train(
    model: "PreTrainedModel",
    data: TrainingData,
    schedule: Schedule,
    checkpoint: Path,
    progress: Progress,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Log:
    """Train those parameters of a model that require gradients.

    Continues from ``checkpoint`` if there is one, with the same result as without the interruption.

    Args:
        model: on its device; left in evaluation mode.
        data: training data.
        schedule: length and learning rate.
        checkpoint: file that holds the state of an unfinished training; removed at the end.
        progress: where progress is shown.
        checkpoint_seconds: time between two checkpoints.

    Raises:
        RecoveryError: the loss is not finite.
    """
    import torch
    import transformers

    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=schedule.learning_rate, weight_decay=0.0)
    untyped: Any = transformers
    scheduler = untyped.get_linear_schedule_with_warmup(
        optimizer, round(schedule.warmup * schedule.steps), schedule.steps
    )
    log = _restore(checkpoint, parameters, optimizer, scheduler)
    begun = time.monotonic() - log.seconds
    order = schedule.order(len(data))
    model.train(True)
    saved = time.monotonic()
    with torch.random.fork_rng(), progress.bar("recover", schedule.steps, "step") as advance:
        advance(len(log.losses))
        for step in range(len(log.losses), schedule.steps):
            # Randomness in a step depends on its number alone, so that a training can be continued at any step.
            torch.manual_seed(schedule.seed_of(step))
            log.losses.append(_step(model, data, schedule, order[step].tolist(), optimizer))
            _check_finite(log.losses, schedule)
            scheduler.step()
            advance(1)
            log.seconds = time.monotonic() - begun
            if time.monotonic() - saved > checkpoint_seconds:
                _save(checkpoint, parameters, optimizer, scheduler, log)
                saved = time.monotonic()
    checkpoint.unlink(missing_ok=True)
    model.train(False)
    return log


def _step(
    model: "PreTrainedModel",
    data: TrainingData,
    schedule: Schedule,
    examples: Sequence[int],
    optimizer: "torch.optim.Optimizer",
) -> float:
    """One optimiser step; returns its loss. Micro-batches weigh by their positions, as if they were one batch."""
    import torch

    optimizer.zero_grad(set_to_none=True)
    positions, total = data.count(examples), 0.0
    for start in range(0, len(examples), schedule.micro_batch):
        with torch.autocast(model.device.type, schedule.dtype, enabled=schedule.dtype != torch.float32):
            loss = data.loss(model, examples[start : start + schedule.micro_batch]) / positions
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, GRADIENT_NORM)
    if math.isfinite(total):
        optimizer.step()
    return total


def _check_finite(losses: Sequence[float], schedule: Schedule) -> None:
    if not math.isfinite(losses[-1]):
        raise RecoveryError(
            f"recover: the loss is {losses[-1]} at step {len(losses)} of {schedule.steps}: lower recover.learning_rate "
            f"(it is {schedule.learning_rate:g}) or raise recover.warmup (it is {schedule.warmup:g})"
        )


def _save(path: Path, parameters: "Mapping[str, nn.Parameter]", optimizer: Any, scheduler: Any, log: Log) -> None:
    import torch

    weights = {name: parameter.detach() for name, parameter in parameters.items()}
    state = {"weights": weights, "optimizer": optimizer.state_dict(), "schedule": scheduler.state_dict()}
    with written_whole(path) as unfinished:
        torch.save(state | asdict(log), unfinished)


def _restore(path: Path, parameters: "Mapping[str, nn.Parameter]", optimizer: Any, scheduler: Any) -> Log:
    """Put a checkpoint's state in place.

    Returns the log so far, whose number of losses is the step to continue at; empty without a checkpoint.
    """
    import torch

    if not path.is_file():
        return Log([], 0.0)
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["schedule"])
    return Log(state["losses"], state.get("seconds", 0.0))  # earlier versions kept no seconds
