"""What evaluators of a running text share: the windows it is cut into, and means over them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from prunecast.plugins import (
    DataError,
    EvaluationError,
    Evaluator,
    Loss,
    ModelShape,
    PluginOptions,
    content_hash,
    read_text,
    tokenize_head,
    tokenize_spread,
)
from prunecast_plugins.evaluators.logits import scores

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class WindowOptions(PluginOptions):
    """Which text, and how it is cut."""

    immaterial = frozenset({"batch"})

    dataset: str = Field(description="name of a data set, or path of a text file")
    split: str = Field(default="validation", description="part of the data set")
    tokens: int = Field(default=16384, ge=2, description="number of tokens")
    place: Literal["start", "spread"] = Field(
        default="start",
        description="start: the first tokens of the text; spread: windows at equal distances over all of it, which "
        "tell more of other texts",
    )
    context: int = Field(default=512, ge=2, description="window length in tokens; windows do not overlap")
    batch: int = Field(default=4, ge=1, description="windows a forward pass; does not change the result")

    @model_validator(mode="after")
    def _whole_windows(self) -> Self:
        if self.place == "spread" and self.tokens % self.context:
            raise ValueError(f"place spread takes whole windows: give a multiple of {self.context} tokens")
        return self


class Mean(NamedTuple):
    """A mean over all ``tokens``, and its standard error over windows, None for one window."""

    value: float
    error: float | None
    tokens: int


class TextEvaluator(Evaluator[WindowOptions]):
    """Base of evaluators that take a number a token from windows of ``context`` tokens that do not overlap.

    No special tokens are added. The first token of each window is context only, so a window of T tokens gives T - 1
    numbers. A last window shorter than ``context`` is used too, unless it is a single token.

    Attributes:
        title: what errors call the evaluator.
    """

    options_model = WindowOptions
    same_batches = True
    differentiable = True
    title: ClassVar[str]

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Tokenise the text. Raises DataError for a context longer than the model's, or too little text."""
        options = self.options
        if options.context > shape.context:
            raise DataError(
                f"{self.title} on {options.dataset}: context {options.context} is longer than the model's, "
                f"set it to {shape.context} or less"
            )
        text = read_text(options.dataset, options.split, data_dir)
        try:
            self._tokens = self._tokenize(tokenizer, text)
        except DataError as error:
            raise DataError(f"{self.title} on {options.dataset}, split {options.split}: {error}") from error

    def _tokenize(self, tokenizer: "PreTrainedTokenizerBase", text: str) -> "torch.LongTensor":
        options = self.options
        if options.place == "start":
            return tokenize_head(tokenizer, text, options.tokens)
        return tokenize_spread(tokenizer, text, options.tokens // options.context, options.context)

    @property
    def data_hash(self) -> str:
        """Hash of the token ids."""
        return content_hash(self._tokens)

    @property
    def tokens(self) -> int:
        """The ``tokens`` option."""
        return len(self._tokens)

    def windows(self, device: "torch.device") -> "list[torch.Tensor]":
        """Batches of windows, int64 of shape (B, T), in the order of the text; the same at every call."""
        import torch

        context, batch = self.options.context, self.options.batch
        tokens = self._tokens.to(device)
        whole = len(tokens) // context * context
        # Of no rows, torch.split makes one empty batch.
        batches = list(torch.split(tokens[:whole].view(-1, context), batch)) if whole else []
        rest = tokens[whole:]
        return [*batches, rest[None]] if len(rest) > 1 else batches

    def predicted(self, windows: "Sequence[torch.Tensor]") -> int:
        """Number of tokens that batches of windows, each (B, T), predict."""
        return sum(ids[:, 1:].numel() for ids in windows)

    def mean(self, parts: "list[torch.Tensor]") -> Mean:
        """Mean of the numbers of all tokens, given batch by batch as (B, T - 1).

        Raises:
            EvaluationError: they are not finite.
        """
        import torch

        numbers = torch.cat([part.flatten() for part in parts])
        value = float(numbers.mean())
        if not math.isfinite(value):
            raise EvaluationError(f"{self.title} on {self.options.dataset}: the model's logits are not finite")
        # Windows count by their tokens, as in the mean: a last one of a token or two says next to nothing.
        off = torch.cat([(part - value).sum(dim=1) for part in parts])
        count = len(off)
        error = float(off.norm()) * math.sqrt(count / (count - 1)) / len(numbers) if count > 1 else None
        return Mean(value, error, len(numbers))


def loss_of(
    model: "PreTrainedModel", hidden: "torch.Tensor", losses: "torch.Tensor", tokens: int, rng: np.random.Generator
) -> Loss:
    """A batch's share in the mean over all ``tokens``, given its final hidden states (N, D) and their losses (N,)."""
    return Loss(losses.sum() / tokens, [each / math.sqrt(tokens) for each in scores(model, hidden, rng)])


def hidden_states(model: "PreTrainedModel", ids: "torch.Tensor") -> "torch.Tensor":
    """Final hidden states before each next token of ids (B, T), in the model's dtype, shape (B, T - 1, D)."""
    hidden: torch.Tensor = model.base_model(ids, use_cache=False).last_hidden_state
    return hidden[:, :-1]
