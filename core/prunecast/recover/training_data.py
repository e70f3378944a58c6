"""Training data of a recovery: examples in micro-batches, with the loss of one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from prunecast.data import content_hash
from prunecast.data.instructions import Example

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

IGNORED = -100
"""Label of a position without loss, as torch's cross-entropy has it."""


class TrainingData(ABC):
    """Examples to train on, with their loss.

    Attributes:
        data_hash: hexadecimal hash of every token id and of which tokens have a loss.
    """

    data_hash: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def count(self, indices: Sequence[int]) -> int:
        """Number of positions of these examples that have a loss."""

    @abstractmethod
    def loss(self, model: "PreTrainedModel", indices: Sequence[int]) -> "Tensor":
        """Sum of the losses over the positions of these examples, in nats, as a scalar to differentiate."""


class InstructionLoss(TrainingData):
    """Instructions, with next-token cross-entropy on the response given the prompt (Alpaca's prompt-masked loss)."""

    def __init__(self, examples: Sequence[Example], device: "torch.device") -> None:
        import torch

        self._examples, self._device = examples, device
        flat = [number for example in examples for number in (len(example.ids), example.prompt, *example.ids)]
        self.data_hash = content_hash(torch.tensor(flat))

    def __len__(self) -> int:
        return len(self._examples)

    def count(self, indices: Sequence[int]) -> int:
        """Number of response tokens."""
        return sum(len(self._examples[i].ids) - self._examples[i].prompt for i in indices)

    def loss(self, model: "PreTrainedModel", indices: Sequence[int]) -> "Tensor":
        """Summed cross-entropy of the response tokens, in nats."""
        from torch.nn import functional

        ids, mask, labels = self._padded(indices)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        # A response token is predicted at the position before it.
        return functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def _padded(self, indices: Sequence[int]) -> "tuple[Tensor, Tensor, Tensor]":
        """Token ids, attention mask and labels, each int64 of shape (B, T), padded on the right."""
        import torch

        examples = [self._examples[i] for i in indices]
        shape = (len(examples), max(len(example.ids) for example in examples))
        ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        labels = torch.full(shape, IGNORED)
        for row, example in enumerate(examples):
            ids[row, : len(example.ids)] = torch.tensor(example.ids)
            mask[row, : len(example.ids)] = 1
            labels[row, example.prompt : len(example.ids)] = torch.tensor(example.ids[example.prompt :])
        return ids.to(self._device), mask.to(self._device), labels.to(self._device)


class DistillationLoss(TrainingData):
    """Plain text, with the Kullback-Leibler divergence from the dense model (arXiv 1503.02531, section 2).

    Args:
        windows: token ids, int64 of shape (N, T).
        teacher: logits (B, T, V) of the dense model for ids (B, T) on the device; called without gradients.
        temperature: both distributions are softened by it, and the loss is scaled by its square.
        device: device of the computation.
    """

    def __init__(
        self, windows: "Tensor", teacher: "Callable[[Tensor], Tensor]", temperature: float, device: "torch.device"
    ) -> None:
        self._windows, self._teacher, self._temperature, self._device = windows, teacher, temperature, device
        self.data_hash = content_hash(windows)

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, indices: Sequence[int]) -> int:
        """Number of tokens."""
        return len(indices) * self._windows.shape[1]

    def loss(self, model: "PreTrainedModel", indices: Sequence[int]) -> "Tensor":
        """Divergence, in nats, summed over all positions of these windows and scaled by the temperature's square."""
        import torch
        from torch.nn import functional

        ids = self._windows[list(indices)].to(self._device)
        with torch.no_grad():
            target = functional.log_softmax(self._teacher(ids).float() / self._temperature, dim=-1)
        logits = model(input_ids=ids, use_cache=False).logits
        learned = functional.log_softmax(logits.float() / self._temperature, dim=-1)
        divergence = functional.kl_div(learned, target, log_target=True, reduction="sum")
        return divergence * self._temperature**2
