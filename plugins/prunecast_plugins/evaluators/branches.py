"""Texts that begin alike, read together: what they share is computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def common_stem(sequences: Sequence[Sequence[int]]) -> list[int]:
    """What all sequences begin with, short of the last token of the shortest."""
    columns = zip(*(sequence[:-1] for sequence in sequences), strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


@dataclass(frozen=True)
class Branches:
    """Token sequences laid out as one row: the stem they share, then the rest of each, one after the other.

    Attributes:
        stem: what all begin with, short of the last token of the shortest.
        rests: what follows the stem, none of them empty.
    """

    stem: list[int]
    rests: list[list[int]]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> "Branches":
        """The layout of sequences, each of at least one token."""
        stem = common_stem(sequences)
        return cls(stem, [list(sequence[len(stem) :]) for sequence in sequences])

    @property
    def row(self) -> list[int]:
        """All tokens, in the order they are laid out."""
        return [*self.stem, *(token for rest in self.rests for token in rest)]

    @property
    def positions(self) -> list[int]:
        """Position of each token of the row in its own sequence."""
        begin = len(self.stem)
        return [*range(begin), *(at for rest in self.rests for at in range(begin, begin + len(rest)))]

    @property
    def owners(self) -> list[int]:
        """Number of the sequence that each token of the row belongs to, -1 for the stem."""
        return [-1] * len(self.stem) + [number for number, rest in enumerate(self.rests) for _ in rest]

    def columns(self, number: int) -> list[int]:
        """Where in the row the tokens of a sequence are."""
        begin = len(self.stem) + sum(map(len, self.rests[:number]))
        return [*range(len(self.stem)), *range(begin, begin + len(self.rests[number]))]


def read(model: "PreTrainedModel", rows: Sequence[Branches]) -> "torch.Tensor":
    """Final hidden states of all rows, (B, T, D) in the model's dtype, T the longest row.

    Each token sees the stem and what is before it in its own sequence, at the positions it has there and as far as the
    layer's attention reaches, so its state is the one it would have had alone.
    """
    import torch

    longest = max(len(row.row) for row in rows)

    def filled(lists: Sequence[list[int]], padding: int) -> "torch.Tensor":
        return torch.tensor([[*one, *[padding] * (longest - len(one))] for one in lists], device=model.device)

    owners, positions = filled([row.owners for row in rows], -2), filled([row.positions for row in rows], 0)
    sees = ((owners[:, None, :] == -1) | (owners[:, None, :] == owners[:, :, None])).tril()
    hidden: torch.Tensor = model.base_model(
        filled([row.row for row in rows], 0),
        attention_mask=_masks(model, sees, positions),
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state
    return hidden


def _masks(
    model: "PreTrainedModel", sees: "torch.Tensor", positions: "torch.Tensor"
) -> "torch.Tensor | dict[str, torch.Tensor]":
    """What a base model takes as its mask: one, or one a kind of layer where some see a sliding window only."""
    config = model.config.get_text_config()
    full, window = _additive(sees, model.dtype), getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or []
    if window is None or (kinds and "sliding_attention" not in kinds):
        return full
    near = positions[:, :, None] - positions[:, None, :] < window
    sliding = _additive(sees & near, model.dtype)
    return {"full_attention": full, "sliding_attention": sliding} if kinds else sliding


def _additive(sees: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """Booleans (B, T, T) as (B, 1, T, T) to add to attention scores, which every implementation of attention takes."""
    import torch

    blind = torch.finfo(dtype).min
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, blind)[:, None]
