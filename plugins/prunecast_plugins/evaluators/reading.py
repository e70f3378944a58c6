"""Incremental reading of a text with a key-value cache that supports layers without attention."""

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Reading:
    """Keys and values of all tokens read so far, in the ``DynamicCache`` of transformers.

    That cache takes the number of its tokens, from which positions and masks follow, from its first layer. If that
    layer has no attention, a placeholder of one number per token is stored there, which no layer reads.

    Keys and values of all tokens are kept, also in layers with sliding-window attention, where the mask of transformers
    hides those outside of the window.

    Args:
        model: a causal language model, stock or elastic; the architecture must stay the same while reading.

    Attributes:
        seen: number of tokens read so far.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        from transformers import DynamicCache

        self._model, self._cache, self._first_is_placeholder = model, DynamicCache(), False
        # transformers calls the argument past_key_values before 5.24, and cache since.
        named = inspect.signature(model.base_model.forward).parameters
        self._argument = "cache" if "cache" in named else "past_key_values"
        self.seen = 0

    def read(self, ids: "torch.Tensor") -> "torch.Tensor":
        """Read further ids, int64 of shape (B, T); returns their final hidden states (B, T, D) in the model's dtype."""
        hidden: torch.Tensor
        options: dict[str, Any] = {self._argument: self._cache, "use_cache": True}
        hidden = self._model.base_model(ids, **options).last_hidden_state
        self.seen += ids.shape[1]
        if self._cache.get_seq_length() < self.seen:
            placeholder = hidden.new_zeros(ids.shape[0], 1, ids.shape[1], 1)
            self._cache.update(placeholder, placeholder, 0)
            self._first_is_placeholder = True
        return hidden

    def repeated(self, batch: int) -> "Reading":
        """A copy with the single row of this one repeated ``batch`` times."""
        twin = Reading(self._model)
        twin.seen, twin._first_is_placeholder = self.seen, self._first_is_placeholder
        for layer, (keys, values, _) in enumerate(self._cache):
            if keys is not None:
                twin._cache.update(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1), layer)
        return twin

    @property
    def nbytes(self) -> int:
        """Bytes of all cached keys and values."""
        layers = list(self._cache)[1 if self._first_is_placeholder else 0 :]
        return sum(keys.nbytes + values.nbytes for keys, values, _ in layers if keys is not None)
