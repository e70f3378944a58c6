"""Architectures of llama.cpp in which a family of models can be written, taken from its loaders and graphs."""

from dataclasses import dataclass

from prunecast.errors import ExportError, did_you_mean
from prunecast.models.families.family import EXPORTED

_ATTENTION_BIASES = frozenset({"attn_q", "attn_k", "attn_v"})
_ALL_BIASES = _ATTENTION_BIASES | {"attn_output", "ffn_gate", "ffn_up", "ffn_down"}


@dataclass(frozen=True)
class Target:
    """An architecture of llama.cpp.

    Attributes:
        name: its name in GGUF files.
        sizes_by_layer: True if numbers of heads, KV groups and channels are arrays with an entry per layer; False if
            all layers have the same numbers.
        no_attention: True if a layer other than the first may have no attention.
        activation: activation function of the MLP, by transformers' name.
        biases: tensors of a layer that may have a bias.
        head_norms: True if queries and keys are normalised, with one weight per row of a head.
        interleaved: True if the rotary embedding turns neighbouring rows of a head, as in the original Llama;
            transformers turns the two halves of a head.
        fused: True if query, key and value are one tensor.
        tied_only: True if the output embedding is always the input embedding.
        rope_factors: True if it reads a factor for each frequency of the rotary embedding.
        norm_offset: number that the stock class adds to the weight of a norm.
        windows: period of the sliding windows, the last layer of each period seeing the whole context; None if every
            layer sees all.
        square: True if the queries of a layer are as wide as the residual stream.
        wide_at: number of layers of a model in which llama.cpp divides query times key by the square root of D / heads
            instead of the square root of the width of a head; None if there is no such model.
    """

    name: str
    sizes_by_layer: bool = False
    no_attention: bool = False
    activation: str = "silu"
    biases: frozenset[str] = frozenset()
    head_norms: bool = False
    interleaved: bool = False
    fused: bool = False
    tied_only: bool = False
    rope_factors: bool = False
    norm_offset: float = 0.0
    windows: int | None = None
    square: bool = False
    wide_at: int | None = None


LLAMA = Target("llama", biases=_ALL_BIASES, interleaved=True, rope_factors=True)
DECI = Target("deci", True, no_attention=True, biases=_ALL_BIASES, interleaved=True, rope_factors=True)
QWEN2 = Target("qwen2", biases=_ATTENTION_BIASES, square=True)
QWEN3 = Target("qwen3", head_norms=True)
OPENELM = Target("openelm", True, head_norms=True, fused=True, tied_only=True)
GEMMA = Target("gemma", activation="gelu_pytorch_tanh", tied_only=True, norm_offset=1.0)
GEMMA2 = Target("gemma2", activation="gelu_pytorch_tanh", tied_only=True, norm_offset=1.0, windows=2, wide_at=46)
GEMMA3 = Target(
    "gemma3",
    activation="gelu_pytorch_tanh",
    head_norms=True,
    tied_only=True,
    norm_offset=1.0,
    windows=6,
    wide_at=62,
)

_TARGETS: dict[str, tuple[Target, ...]] = {
    "llama": (LLAMA, DECI),
    "mistral": (LLAMA, DECI),
    "qwen2": (QWEN2, DECI),
    "qwen3": (QWEN3, OPENELM),
    "gemma": (GEMMA,),
    "gemma2": (GEMMA2,),
    "gemma3_text": (GEMMA3,),
}
"""Targets of each family: first the one for layers of equal sizes, then, if there is one, the one for any sizes."""


def targets_of(family: str) -> tuple[Target, ...]:
    """Targets of a family, by its name or that of its exports: one for equal layers, then perhaps one for any sizes.

    Raises:
        ExportError: there is none.
    """
    name = family.removeprefix(EXPORTED)
    if name not in _TARGETS:
        raise ExportError(f"family {family!r} cannot be written as GGUF{did_you_mean(name, _TARGETS)}")
    return _TARGETS[name]
