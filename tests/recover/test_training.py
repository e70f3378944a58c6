"""The training loop and the losses, compared with straightforward implementations."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from prunecast.data import Example
from prunecast.errors import RecoveryError
from prunecast.progress import Progress
from prunecast.recover.training import Schedule, train
from prunecast.recover.training_data import DistillationLoss, InstructionLoss

CPU, SILENT = torch.device("cpu"), Progress(quiet=True)
EXAMPLES = [
    Example((5, 9, 14, 3, 8), 2),
    Example((7, 7, 1), 1),
    Example((4, 2, 6, 11, 12, 13, 9), 6),
    Example((1, 2), 1),
]
SCHEDULE = Schedule(steps=9, batch=2, micro_batch=1, learning_rate=0.01, warmup=0.2, seed=3, dtype=torch.float32)


class Interrupted(Progress):
    """Progress that raises KeyboardInterrupt at a step, like Ctrl-C."""

    at: int = 5

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            if done >= self.at:
                raise KeyboardInterrupt

        yield advance


def trained_weights(
    model: Any, checkpoint: Path, schedule: Schedule = SCHEDULE, **more: Any
) -> tuple[list[float], Any]:
    log = train(model.requires_grad_(True), InstructionLoss(EXAMPLES, CPU), schedule, checkpoint, SILENT, **more)
    return log.losses, {name: tensor.clone() for name, tensor in model.state_dict().items()}


# ----------------------------------------------------------------------------------------------------- losses


def test_the_instruction_loss_counts_response_tokens_without_padding(
    tiny_model: Callable[..., Any],
) -> None:
    model, data = tiny_model("llama"), InstructionLoss(EXAMPLES, CPU)
    expected = 0.0
    with torch.inference_mode():
        for example in EXAMPLES:
            log_p = torch.log_softmax(model(torch.tensor([example.ids])).logits[0], -1)
            expected -= sum(log_p[i - 1, example.ids[i]].item() for i in range(example.prompt, len(example.ids)))
        found = data.loss(model, [0, 1, 2, 3]).item()
    assert found == pytest.approx(expected, rel=1e-5)
    assert data.count([0, 1, 2, 3]) == 3 + 2 + 1 + 1


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_distillation_loss_is_the_divergence_from_the_teacher(
    tiny_model: Callable[..., Any], temperature: float
) -> None:
    teacher, student = tiny_model("llama"), tiny_model("llama", seed=1)
    windows = torch.randint(3, 97, (3, 8), generator=torch.Generator().manual_seed(0))
    data = DistillationLoss(windows, lambda ids: teacher(ids).logits, temperature, CPU)
    with torch.inference_mode():
        p, q = (Categorical(logits=model(windows[[2, 0]]).logits / temperature) for model in (teacher, student))
        assert data.loss(student, [2, 0]).item() == pytest.approx(
            kl_divergence(p, q).sum().item() * temperature**2, rel=1e-4
        )
        assert data.loss(teacher, [1]).item() == pytest.approx(0, abs=1e-4)
    assert data.count([2, 0]) == 16


def test_the_hash_depends_on_every_token_and_the_response_start() -> None:
    hashes = [
        InstructionLoss(examples, CPU).data_hash
        for examples in (EXAMPLES, EXAMPLES[::-1], [replace(EXAMPLES[0], prompt=3), *EXAMPLES[1:]], EXAMPLES[:3])
    ]
    assert len(set(hashes)) == 4


# ------------------------------------------------------------------------------------------------------- loop


def test_every_example_occurs_once_per_epoch() -> None:
    order = replace(SCHEDULE, steps=10, batch=3).order(6)
    epochs = order.reshape(5, 6)
    assert (np.sort(epochs, axis=1) == np.arange(6)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1
    assert (order == replace(SCHEDULE, steps=10, batch=3).order(6)).all()
    assert (order != replace(SCHEDULE, steps=10, batch=3, seed=4).order(6)).any()


def test_number_of_steps_for_a_number_of_epochs() -> None:
    assert [Schedule.steps_for(epochs, 100, 32) for epochs in (0.001, 1, 2, 2.5)] == [1, 4, 7, 8]


def test_training_lowers_the_loss_and_is_bitwise_reproducible(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, steps=30)
    losses, weights = trained_weights(tiny_model("llama"), tmp_path / "a", schedule)
    again, same = trained_weights(tiny_model("llama"), tmp_path / "a", schedule)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert losses == again
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert not list(tmp_path.iterdir())


def test_micro_batches_are_weighted_by_their_token_counts(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, batch=4, steps=3)
    small, whole = (
        trained_weights(tiny_model("llama"), tmp_path / "a", replace(schedule, micro_batch=size))[0] for size in (1, 4)
    )
    assert small == pytest.approx(whole, rel=1e-4)


def test_a_resumed_training_reaches_the_same_weights(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    """Uses dropout, so random numbers of a step must not depend on earlier steps."""
    dropout = {"attention_dropout": 0.3}
    losses, weights = trained_weights(tiny_model("llama", **dropout), tmp_path / "uninterrupted")
    checkpoint = tmp_path / "interrupted"
    killed = tiny_model("llama", **dropout).requires_grad_(True)
    with pytest.raises(KeyboardInterrupt):
        train(killed, InstructionLoss(EXAMPLES, CPU), SCHEDULE, checkpoint, Interrupted(), checkpoint_seconds=0)
    done = torch.load(checkpoint, weights_only=True)["losses"]
    assert 0 < len(done) < SCHEDULE.steps
    continued, same = trained_weights(tiny_model("llama", **dropout), checkpoint)
    assert continued == losses
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("before", "least"), [({"seconds": 1000.0}, 1000.0), ({}, 0.0)], ids=["kept", "of an earlier version"]
)
def test_a_resumed_training_reports_its_total_time(
    tiny_model: Callable[..., Any], tmp_path: Path, before: dict[str, float], least: float
) -> None:
    checkpoint, data, model = tmp_path / "interrupted", InstructionLoss(EXAMPLES, CPU), tiny_model("llama")
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(model.requires_grad_(True), data, SCHEDULE, checkpoint, Interrupted(), checkpoint_seconds=0)
    state = torch.load(checkpoint, weights_only=True)
    assert 0 < state.pop("seconds") < time.monotonic() - start
    torch.save(state | before, checkpoint)
    start = time.monotonic()
    log = train(model, data, SCHEDULE, checkpoint, SILENT)
    assert len(log.losses) == SCHEDULE.steps
    assert least < log.seconds < least + time.monotonic() - start


def test_the_learning_rate_rises_then_falls_to_zero(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    """A first step at rate zero changes nothing; the second step of AdamW moves by the learning rate."""
    schedule = replace(SCHEDULE, steps=2, warmup=0.5)
    before = tiny_model("llama").state_dict()
    _, after = trained_weights(tiny_model("llama"), tmp_path / "a", schedule)
    moved = max((after[name] - before[name]).abs().max().item() for name in before)
    assert moved == pytest.approx(schedule.learning_rate, rel=0.35)


def test_a_nan_loss_is_a_one_line_error(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RecoveryError, match=r"the loss is nan at step \d of 9: lower recover.learning_rate") as caught:
        trained_weights(tiny_model("llama"), tmp_path / "a", replace(SCHEDULE, learning_rate=1e30))
    assert "\n" not in str(caught.value)


def test_training_does_not_use_the_global_generator(tiny_model: Callable[..., Any], tmp_path: Path) -> None:
    model = tiny_model("llama")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained_weights(model, tmp_path / "a")
    assert torch.equal(torch.rand(3), expected)
