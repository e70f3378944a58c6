"""Packing of token sequences with a common prefix into one row, so that the prefix is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def common_stem(sequences: Sequence[Sequence[int]]) -> list[int]:
    """Longest common prefix of the sequences, without the last token of the shortest."""
    columns = zip(*(sequence[:-1] for sequence in sequences), strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


@dataclass(frozen=True)
class Branches:
    """Token sequences packed into one row: their common prefix (stem), then the remainder of each in order.

    Attributes:
        stem: common prefix, without the last token of the shortest sequence.
        rests: remainder of each sequence after the stem, at least one token each.
    """

    stem: list[int]
    rests: list[list[int]]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> "Branches":
        """Pack sequences of at least one token each."""
        stem = common_stem(sequences)
        return cls(stem, [list(sequence[len(stem) :]) for sequence in sequences])

    @property
    def row(self) -> list[int]:
        """All tokens, in the order of the row."""
        return [*self.stem, *(token for rest in self.rests for token in rest)]

    @property
    def positions(self) -> list[int]:
        """Position of each token of the row in its own sequence."""
        begin = len(self.stem)
        return [*range(begin), *(at for rest in self.rests for at in range(begin, begin + len(rest)))]

    @property
    def owners(self) -> list[int]:
        """Index of the sequence that each token of the row belongs to, -1 for the stem."""
        return [-1] * len(self.stem) + [number for number, rest in enumerate(self.rests) for _ in rest]

    def columns(self, number: int) -> list[int]:
        """Columns of the row that hold the tokens of sequence ``number``."""
        begin = len(self.stem) + sum(map(len, self.rests[:number]))
        return [*range(len(self.stem)), *range(begin, begin + len(self.rests[number]))]


def read(model: "PreTrainedModel", rows: Sequence[Branches]) -> "torch.Tensor":
    """Final hidden states of all rows, (B, T, D) in the model's dtype, where T is the length of the longest row.

    The attention mask lets each token attend to the stem and to the earlier tokens of its own sequence, within the
    layer's sliding window if it has one, and the position ids are those in its own sequence. Each hidden state is
    therefore that of the sequence read alone.
    """
    import torch

    longest = max(len(row.row) for row in rows)

    def filled(lists: Sequence[list[int]], padding: int) -> "torch.Tensor":
        return torch.tensor([[*one, *[padding] * (longest - len(one))] for one in lists], device=model.device)

    owners, positions = filled([row.owners for row in rows], -2), filled([row.positions for row in rows], 0)
    visible = ((owners[:, None, :] == -1) | (owners[:, None, :] == owners[:, :, None])).tril()
    hidden: torch.Tensor = model.base_model(
        filled([row.row for row in rows], 0),
        attention_mask=_masks(model, visible, positions),
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state
    return hidden


def _masks(
    model: "PreTrainedModel", visible: "torch.Tensor", positions: "torch.Tensor"
) -> "torch.Tensor | dict[str, torch.Tensor]":
    """Attention mask for the base model; one per layer type if some layers use a sliding window."""
    config = model.config.get_text_config()
    full, window = _additive(visible, model.dtype), getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or []
    if window is None or (kinds and "sliding_attention" not in kinds):
        return full
    near = positions[:, :, None] - positions[:, None, :] < window
    sliding = _additive(visible & near, model.dtype)
    return {"full_attention": full, "sliding_attention": sliding} if kinds else sliding


def _additive(visible: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """Additive mask (B, 1, T, T) from booleans (B, T, T); every attention implementation accepts this form."""
    import torch

    lowest = torch.finfo(dtype).min
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, lowest)[:, None]
