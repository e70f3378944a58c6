"""Exported models that lack attention in some layers: with a cache they compute what they compute without one."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pruned_families import CASES, OWN_GROUPS, SIZES, SLIDING, WIDTH, prune
from transformers import (
    Cache,
    DynamicCache,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from prunecast.errors import ExportError
from prunecast.export.parity import distance, generation_logits
from prunecast.export.proof.rehearsal import rehearse
from prunecast.export.sliced import SlicedFolder
from prunecast.testing.models import family_of

LAYERS, TOKENS = 4, 20
DEEP = SIZES | {"num_hidden_layers": LAYERS}
FULL_LAST = ["sliding_attention", "sliding_attention", "full_attention", "full_attention"]

CONFIGS = {
    "llama": LlamaConfig(**DEEP),
    "mistral": MistralConfig(**DEEP, sliding_window=None),
    "mistral-sliding": MistralConfig(**DEEP, sliding_window=6),
    "qwen2": Qwen2Config(**DEEP),
    "qwen2-full-last": Qwen2Config(**DEEP, layer_types=FULL_LAST, **SLIDING),
    "qwen2-sliding-last": Qwen2Config(**DEEP, layer_types=FULL_LAST[::-1], **SLIDING),
    "qwen3": Qwen3Config(**DEEP),
    "qwen3-mixed": Qwen3Config(**DEEP, layer_types=FULL_LAST, **SLIDING),
    "smollm3": SmolLM3Config(**DEEP, no_rope_layer_interval=2, pad_token_id=0),
    "gemma": GemmaConfig(**DEEP),
    "gemma3": Gemma3TextConfig(**DEEP, sliding_window=6, layer_types=FULL_LAST),
    "gemma2": Gemma2Config(**DEEP, sliding_window=6),
    "phi3": Phi3Config(**DEEP, pad_token_id=0),
    "phi3-sliding": Phi3Config(**DEEP, pad_token_id=0, sliding_window=6),
    "gpt2": GPT2Config(**OWN_GROUPS, n_layer=LAYERS, n_inner=WIDTH),
    "opt": OPTConfig(**OWN_GROUPS, num_hidden_layers=LAYERS, ffn_dim=WIDTH),
}

GONE = {"first": (0,), "first two": (0, 1), "middle": (1, 2), "last": (3,), "all": (0, 1, 2, 3)}


def architecture(config: Any, gone: tuple[int, ...]) -> str:
    attention = "2x2" if getattr(config, "num_key_value_heads", None) else "3x1"
    return " ".join(f"{'0' if layer in gone else attention}+{WIDTH}" for layer in range(LAYERS))


@pytest.fixture(scope="module", params=[(name, gone) for name in CONFIGS for gone in GONE], ids="-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """The pruned model with its zeroed dense counterpart, and the model that the exported code builds."""
    name, gone = request.param
    config = CONFIGS[name]
    pruned = prune(config, architecture(config, GONE[gone]))
    with (
        SlicedFolder.written(config, family_of(config), pruned.state, pruned.architecture) as folder,
        torch.inference_mode(),
    ):
        yield pruned, folder.load(torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(1, SIZES["vocab_size"], (2, TOKENS), generator=torch.Generator().manual_seed(3))


def test_generating_with_a_cache_equals_full_forwards_of_a_padded_batch(pair: Any, ids: torch.Tensor) -> None:
    cached, uncached = generation_logits(pair[1], ids)
    assert distance(cached, uncached) < 1e-5


def test_a_prompt_in_two_pieces_gives_the_logits_of_the_whole(pair: Any, ids: torch.Tensor) -> None:
    pruned, model = pair
    cache = DynamicCache(config=model.config)
    # The second piece is longer than the sliding windows.
    pieces = [model(piece, past_key_values=cache).logits for piece in (ids[:, :9], ids[:, 9:])]
    assert distance(torch.cat(pieces, dim=1), pruned.logits(ids)) < 1e-5
    assert cache.get_seq_length() == TOKENS


# -------------------------------------------------------------------------------------------------------- rehearsal


@pytest.mark.parametrize("config", [*CONFIGS.values(), *(config for config, _ in CASES.values())])
def test_every_described_family_can_be_rehearsed(config: Any) -> None:
    before, state = config.to_dict(), torch.random.get_rng_state()
    rehearse(config, family_of(config))
    assert config.to_dict() == before
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["llama", "qwen2-full-last", "gemma2"])
def test_a_transformers_that_counts_tokens_elsewhere_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    update = DynamicCache.update

    def forgetful(self: Cache, keys: torch.Tensor, values: torch.Tensor, layer: int, *others: Any, **named: Any) -> Any:
        if keys.shape[-1] == 1:  # the count of a layer without attention
            return keys, values
        return update(self, keys, values, layer, *others, **named)

    monkeypatch.setattr(DynamicCache, "update", forgetful)
    with pytest.raises(ExportError, match=r"cannot be exported with transformers 5\..*: cached: logits differ by"):
        rehearse(CONFIGS[name], family_of(CONFIGS[name]))


def test_a_transformers_that_the_code_does_not_fit_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> None:
        raise AttributeError("no such layer")

    monkeypatch.setattr(torch.nn.Module, "set_submodule", gone)
    with pytest.raises(ExportError, match=r"it fails \(AttributeError: no such layer\); install another version"):
        rehearse(CONFIGS["llama"], family_of(CONFIGS["llama"]))
