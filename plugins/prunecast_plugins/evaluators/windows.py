"""Evaluation of a text in windows: tokens, windows, means and their standard errors.

Notation:
    B       number of windows in a batch
    T       length of a window in tokens
    F       number of tokens in front of a window: 1 with a beginning-of-sequence token, else 0
    D       hidden size of the model
    C       number of windows
    N       number of predicted tokens, T - 1 in each window
    v       a number for each predicted token, such as its loss, shape (B, T - 1) in a batch
    m       mean of v over all N tokens
    d       sum of v - m over the tokens of each window, shape (C,)
    s       standard error of m, sqrt(C / (C - 1) sum_c d_c^2) / N; windows are independent, tokens in one are not
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from prunecast.plugins import (
    Bos,
    DataError,
    EvaluationError,
    Evaluator,
    Loss,
    ModelShape,
    PluginOptions,
    begin_with,
    bos_tokens,
    check_embedded,
    content_hash,
    read_text,
    split_label,
    tokenize_head,
    tokenize_spread,
)
from prunecast_plugins.evaluators.logits import scores

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class WindowOptions(PluginOptions):
    """Options of evaluators on a text: the text and its windows."""

    immaterial = frozenset({"batch"})

    dataset: str = Field(description="name of a data set, or path of a text file")
    split: str = Field(default="validation", description="part of the data set")
    tokens: int = Field(default=16384, ge=2, description="number of tokens")
    place: Literal["start", "spread"] = Field(
        default="start",
        description="position of the windows; start: the first tokens of the text; spread: at equal distances over the "
        "whole text, which is more representative",
    )
    context: int = Field(default=512, ge=2, description="window length in tokens; windows do not overlap")
    batch: int = Field(default=4, ge=1, description="windows per forward pass; does not change the result")
    bos: Bos = Field(
        default="auto",
        description="beginning-of-sequence token in front of each window, on top of its context tokens and never "
        "predicted; auto: for families that need it, such as Gemma",
    )

    @model_validator(mode="after")
    def _whole_windows(self) -> Self:
        if self.place == "spread" and self.tokens % self.context:
            raise ValueError(f"place spread takes whole windows: give a multiple of {self.context} tokens")
        return self


class Mean(NamedTuple):
    """Mean over ``tokens`` tokens, and its standard error over windows; None if there is only one window."""

    value: float
    error: float | None
    tokens: int


class TextEvaluator(Evaluator[WindowOptions]):
    """Base of evaluators that average a number per token over non-overlapping windows of ``context`` tokens.

    The first token of each window is context only, so a window of T tokens gives T - 1 numbers. A shorter last window
    is used too, unless it is a single token. With ``bos`` the model reads a beginning-of-sequence token in front of
    each window. It comes on top of the T tokens and is not predicted, nor is the first token of the window, so the same
    tokens are predicted with it and without it. No other special tokens are added.

    Attributes:
        title: name of the evaluator in error messages.
    """

    options_model = WindowOptions
    same_batches = True
    differentiable = True
    title: ClassVar[str]

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Tokenise the text.

        Raises:
            DataError: a window exceeds the model's context, the text is too short or not one for this tokenizer, or
                ``bos`` asks for a token that the tokenizer does not have.
        """
        options = self.options
        with self._naming_data():
            self._bos = bos_tokens(options.bos, tokenizer, shape)
            self._check_context(shape.context)
        text = read_text(options.dataset, options.split, data_dir)
        with self._naming_data():
            self._tokens = self._tokenize(tokenizer, text)
            check_embedded(tokenizer, self._tokens.tolist(), shape.vocabulary)

    @contextmanager
    def _naming_data(self) -> Iterator[None]:
        """Add the evaluator and its data to a DataError."""
        try:
            yield
        except DataError as error:
            split = split_label(self.options.dataset, self.options.split)
            raise DataError(f"{self.title} on {self.options.dataset}, {split}: {error}") from error

    def _check_context(self, limit: int) -> None:
        longest = limit - len(self._bos)
        if self.options.context > longest:
            and_bos = "and a beginning-of-sequence token are" if self._bos else "is"
            raise DataError(
                f"context {self.options.context} {and_bos} longer than the model's, set it to {longest} or less"
            )

    def _tokenize(self, tokenizer: "PreTrainedTokenizerBase", text: str) -> "torch.LongTensor":
        options = self.options
        if options.place == "start":
            return tokenize_head(tokenizer, text, options.tokens)
        return tokenize_spread(tokenizer, text, options.tokens // options.context, options.context)

    @property
    def data_hash(self) -> str:
        """Hash of the token ids, after that of the beginning of a sequence if it is put in front."""
        return content_hash(self._tokens.new_tensor([*self._bos, *self._tokens.tolist()]))

    @property
    def tokens(self) -> int:
        """The ``tokens`` option, and the tokens in front of windows."""
        return len(self._tokens) + len(self._bos) * math.ceil(len(self._tokens) / self.options.context)

    def windows(self, device: "torch.device") -> "list[torch.Tensor]":
        """Batches of windows, int64 of shape (B, F + T), in the order of the text; the same at every call."""
        import torch

        context, batch = self.options.context, self.options.batch
        tokens = self._tokens.to(device)
        whole = len(tokens) // context * context
        # torch.split would turn zero rows into one empty batch.
        batches = list(torch.split(tokens[:whole].view(-1, context), batch)) if whole else []
        rest = tokens[whole:]
        batches += [rest[None]] if len(rest) > 1 else []
        return [begin_with(self._bos, ids) for ids in batches]

    def targets(self, ids: "torch.Tensor") -> "torch.Tensor":
        """The predicted tokens of a batch (B, F + T): shape (B, T - 1)."""
        return ids[:, len(self._bos) + 1 :]

    def hidden_states(self, model: "PreTrainedModel", ids: "torch.Tensor") -> "torch.Tensor":
        """Final hidden states that predict the targets of a batch (B, F + T): shape (B, T - 1, D), in model dtype."""
        return hidden_states(model, ids)[:, len(self._bos) :]

    def predicted(self, windows: "Sequence[torch.Tensor]") -> int:
        """Number of predicted tokens in batches of windows, each (B, F + T)."""
        return sum(self.targets(ids).numel() for ids in windows)

    def mean(self, parts: "list[torch.Tensor]") -> Mean:
        """Mean of v over all tokens, from its batches of shape (B, T - 1).

        Raises:
            EvaluationError: the mean is not finite.
        """
        import torch

        numbers = torch.cat([part.flatten() for part in parts])
        value = float(numbers.mean())
        if not math.isfinite(value):
            raise EvaluationError(f"{self.title} on {self.options.dataset}: the model's logits are not finite")
        # Sums, so that windows are weighted by their tokens as in the mean: a short last window has little weight.
        off = torch.cat([(part - value).sum(dim=1) for part in parts])
        count = len(off)
        error = float(off.norm()) * math.sqrt(count / (count - 1)) / len(numbers) if count > 1 else None
        return Mean(value, error, len(numbers))


def loss_of(
    model: "PreTrainedModel", hidden: "torch.Tensor", losses: "torch.Tensor", tokens: int, rng: np.random.Generator
) -> Loss:
    """Contribution of a batch to the mean over ``tokens`` tokens, from its hidden states (n, D) and losses (n,)."""
    return Loss(losses.sum() / tokens, [each / math.sqrt(tokens) for each in scores(model, hidden, rng)])


def hidden_states(model: "PreTrainedModel", ids: "torch.Tensor") -> "torch.Tensor":
    """Final hidden states that predict ids (B, T) after the first: shape (B, T - 1, D), in the model's dtype."""
    hidden: torch.Tensor = model.base_model(ids, use_cache=False).last_hidden_state
    return hidden[:, :-1]
