"""The beginning-of-sequence token in front of texts: the option, its meaning for a family, and its part of a key.

The token comes on top of a text's own tokens, so a window of 512 tokens has 513 with it, and the same tokens are
predicted with it and without it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field

from prunecast.architecture.shape import ModelShape
from prunecast.errors import DataError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


class _BosMark:
    """Marks a field of options as the option ``bos``."""


Bos = Annotated[
    Literal["auto", "always", "never"],
    Field(
        description="beginning-of-sequence token in front of each text, on top of its tokens; auto: for families that "
        "need it, such as Gemma"
    ),
    _BosMark(),
]
"""Type of the option ``bos`` of anything that reads text; its default is ``auto``."""

OptionsT = TypeVar("OptionsT", bound=BaseModel)


def bos_tokens(bos: Bos, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape) -> list[int]:
    """Token ids to put in front of every text: the beginning-of-sequence token, or none.

    Args:
        bos: the option.
        tokenizer: tokenizer of the model.
        shape: the dense model; ``auto`` depends on its family.

    Raises:
        DataError: the token is wanted, and the tokenizer has none.
    """
    if not _in_front(bos, shape.bos):
        return []
    token = tokenizer.bos_token_id
    if isinstance(token, int):
        return [token]
    if bos == "always":
        raise DataError("bos: always, but the tokenizer has no beginning-of-sequence token; leave bos out")
    raise DataError(
        f"{shape.family} models need a beginning-of-sequence token, and the tokenizer has none; give it the model's "
        "bos_token, or set bos: never"
    )


def begin_with(bos: Sequence[int], windows: "torch.Tensor") -> "torch.LongTensor":
    """Windows (N, T) with the tokens of :func:`bos_tokens` in front of each: int64 of shape (N, T) or (N, T + 1)."""
    import torch

    front = torch.tensor(list(bos), dtype=torch.int64, device=windows.device)
    return torch.cat([front.expand(len(windows), -1), windows], dim=1).long()  # type: ignore[return-value]


def with_settled_bos(options: OptionsT, needed: bool) -> OptionsT:
    """Options for a content key: each ``bos`` is ``always`` if the token is put in front, else its default.

    Defaults are not part of a key. So an option that changes nothing changes no key, and numbers that were measured
    before the option existed, always without the token, have the key of texts without it.

    Args:
        options: options of a plugin or a recovery, with options inside them.
        needed: True if the family of the model needs the token.
    """
    fields = type(options).model_fields
    settled = {
        name: ("always" if _in_front(value, needed) else "auto")
        if _is_bos(fields[name].metadata)
        else _inside(value, needed)
        for name, value in options
        if name in fields
    }
    return options.model_copy(update=settled)


def _inside(value: Any, needed: bool) -> Any:
    if isinstance(value, BaseModel):
        return with_settled_bos(value, needed)
    if isinstance(value, tuple | list):
        return type(value)(_inside(each, needed) for each in value)
    return value


def _is_bos(metadata: Sequence[object]) -> bool:
    return any(isinstance(each, _BosMark) for each in metadata)


def _in_front(bos: Bos, needed: bool) -> bool:
    return bos == "always" or (bos == "auto" and needed)
