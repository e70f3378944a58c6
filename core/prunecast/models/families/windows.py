"""What the attention of each layer sees: the whole context, or a window of the last tokens, by the config alone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


UNLIMITED = 2048
"""Context of a model whose config has none, as with ALiBi, which extends to any: the length most were trained at."""


def context_of(config: "PreTrainedConfig") -> int:
    """Most tokens that a model reads at once, by its config."""
    text = config.get_text_config()
    named = (getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len", "seq_length"))
    return next((int(length) for length in named if length), UNLIMITED)


def windows_of(config: "PreTrainedConfig") -> list[int | None]:
    """Number of tokens, its own among them, that the attention of each layer sees at most; None for all.

    A window that holds the whole context is None. Attention in chunks sees at most a chunk.

    Args:
        config: the config of a causal language model, or one whose text model is.

    Raises:
        ModelError: a window holds no token.
    """
    context = context_of(config)
    written = _written(config.get_text_config())
    return [None if window is None or window >= context else int(window) for window in written]


def _written(text: Any) -> Iterator[int | None]:
    """The window of each layer as the config has it, by the attribute that the model's own code reads.

    An attribute that the class of the config does not know is read by no code, so it says nothing.
    """
    kinds = _known(text, "layer_types")
    sliding, chunk = "sliding_window", "attention_chunk_size"
    if hasattr(text, "attention_layers"):  # GPT-Neo
        named = ["window_size" if kind == "local" else "" for kind in text.attention_layers]
    elif kinds is not None:
        named = [{"sliding_attention": sliding, "chunked_attention": chunk}.get(kind, "") for kind in kinds]
    else:
        named = [chunk if _window(text, sliding) is None else sliding] * text.num_hidden_layers
    yield from (_window(text, name) for name in named)


def _window(text: Any, name: str) -> int | None:
    """The window in an attribute of a config; None for no name. Raises ModelError if it holds no token."""
    derived = name == "sliding_window" and _known(text, "local_attention") is not None  # ModernBERT has a property
    window: int | None = getattr(text, name, None) if derived or name == "window_size" else _known(text, name)
    if window is not None and window < 1:
        raise ModelError(
            f"a {text.model_type} model with {name} {window} in its config.json has attention that sees no token: "
            "correct it, 1 or more, or null for the whole context"
        )
    return window


def _known(text: Any, name: str) -> Any:
    return getattr(text, name, None) if hasattr(type(text), name) else None
