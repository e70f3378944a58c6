"""An evaluator: accuracy of the most likely next token."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from prunecast.plugins import (
    DataError,
    EvaluationError,
    Evaluator,
    Measurement,
    Metric,
    ModelShape,
    PluginOptions,
    content_hash,
    logits_of,
    read_text,
    tokenize_head,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class GuessesOptions(PluginOptions):
    """Options of the evaluator."""

    dataset: str = Field(default="python-docs", description="name of a data set, or path of a text file")
    split: str = Field(default="validation", description="part of the data set")
    windows: int = Field(default=8, ge=1, description="number of windows")
    context: int = Field(default=128, ge=2, description="length of a window in tokens")


class Guesses(Evaluator[GuessesOptions]):
    """Share of tokens that are the model's most likely next token, given the tokens before them in their window."""

    options_model = GuessesOptions
    same_batches = True

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Split the beginning of the text into windows. Raises DataError if they exceed the model's context."""
        options = self.options
        if options.context > shape.context:
            raise DataError(f"context {options.context} is longer than the model's: set it to {shape.context} or less")
        text = read_text(options.dataset, options.split, data_dir)
        self._windows = tokenize_head(tokenizer, text, options.windows * options.context).view(options.windows, -1)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """A single metric, ``DATASET.SPLIT.guessed``."""
        dataset = Path(self.options.dataset).stem
        return (Metric(f"{dataset}.{self.options.split}.guessed", "maximize", "fraction"),)

    @property
    def data_hash(self) -> str:
        """Hash of the windows."""
        return content_hash(self._windows)

    @property
    def tokens(self) -> int:
        """Number of tokens in all windows."""
        return self._windows.numel()

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Accuracy and its standard error, window by window. Raises EvaluationError if a logit is not finite."""
        correct = count = 0
        for window in self._windows.to(model.device)[:, None]:
            hidden = model.base_model(window, use_cache=False).last_hidden_state
            logits = logits_of(model, hidden[0, :-1])
            if not logits.isfinite().all():
                raise EvaluationError(f"{self.metrics[0].name}: the model's logits are not finite")
            correct += int((logits.argmax(dim=-1) == window[0, 1:]).sum())
            count += len(logits)
        share = correct / count
        return [Measurement(self.metrics[0], share, math.sqrt(share * (1 - share) / count), count)]
