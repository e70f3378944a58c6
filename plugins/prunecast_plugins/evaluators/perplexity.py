"""Perplexity of a text."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from prunecast.data import content_hash, read_text, tokenize_head
from prunecast.errors import DataError, EvaluationError
from prunecast.interfaces import Evaluator, Measurement, Metric, PluginOptions
from prunecast.shape import ModelShape

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGIT_ROWS = 1024
"""Rows of logits held at once: with a vocabulary of 50,000 about 200 MB in float32, however long the text is."""


class PerplexityOptions(PluginOptions):
    """Options of the perplexity evaluator."""

    immaterial = frozenset({"batch"})

    dataset: str = Field(description="name of a data set, or path of a text file")
    split: str = Field(default="validation", description="part of the data set")
    tokens: int = Field(default=16384, ge=2, description="number of tokens, from the start of the text")
    context: int = Field(default=512, ge=2, description="window length in tokens; windows do not overlap")
    batch: int = Field(default=4, ge=1, description="windows a forward pass; does not change the result")


class Perplexity(Evaluator[PerplexityOptions]):
    """exp of the mean next-token cross-entropy over windows of ``context`` tokens that do not overlap.

    No special tokens are added. The first token of each window is context only, so a window of T tokens gives T - 1
    losses. A last window shorter than ``context`` is used too, unless it is a single token. The standard error is
    that of the mean over windows, carried to the perplexity.
    """

    options_model = PerplexityOptions

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Tokenise the text. Raises DataError for a context longer than the model's, or too little text."""
        options = self.options
        if options.context > shape.context:
            raise DataError(
                f"perplexity on {options.dataset}: context {options.context} is longer than the model's, "
                f"set it to {shape.context} or less"
            )
        text = read_text(options.dataset, options.split, data_dir)
        self._tokens = tokenize_head(tokenizer, text, options.tokens)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``DATASET.SPLIT.ppl``."""
        name = f"{self.options.dataset}.{self.options.split}.ppl"
        return (Metric(name, "minimize", "perplexity", "log"),)

    @property
    def data_hash(self) -> str:
        """Hash of the token ids."""
        return content_hash(self._tokens)

    @property
    def tokens(self) -> int:
        """The ``tokens`` option."""
        return len(self._tokens)

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Mean over all predicted tokens."""
        import torch

        windows = [window.to(model.device) for window in self._windows()]
        losses = [_token_losses(model, batch) for batch in windows]
        loss = float(torch.cat([part.flatten() for part in losses]).mean())
        if not math.isfinite(loss):
            raise EvaluationError(f"perplexity on {self.options.dataset}: the model's logits are not finite")
        by_window = torch.cat([part.mean(dim=1) for part in losses])
        deviation = float(by_window.std()) / math.sqrt(len(by_window)) if len(by_window) > 1 else None
        perplexity = _exp(loss)
        error = None if deviation is None else perplexity * deviation
        return [Measurement(self.metrics[0], perplexity, error, sum(part.numel() for part in losses))]

    def _windows(self) -> list["torch.Tensor"]:
        import torch

        context, batch = self.options.context, self.options.batch
        whole = len(self._tokens) // context * context
        batches = list(torch.split(self._tokens[:whole].view(-1, context), batch))
        rest = self._tokens[whole:]
        return [*batches, rest[None]] if len(rest) > 1 else batches


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))


def _token_losses(model: "PreTrainedModel", ids: "torch.Tensor") -> "torch.Tensor":
    """Cross-entropy of each next token, float32 of shape (B, T - 1), with logits made a few rows at a time."""
    import torch
    from torch.nn import functional

    hidden = model.base_model(ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
    targets = ids[:, 1:].flatten()
    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    losses = [
        functional.cross_entropy(head(rows).float(), wanted, reduction="none")
        for rows, wanted in zip(torch.split(hidden, LOGIT_ROWS), torch.split(targets, LOGIT_ROWS), strict=True)
    ]
    return torch.cat(losses).view(len(ids), -1)
