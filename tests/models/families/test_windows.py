"""Windows of configs, compared with what tiny models of these configs compute."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from prunecast.architecture.shape import WHOLE_CACHES
from prunecast.errors import ModelError
from prunecast.models.families.windows import windows_of

CONTEXT, DEPTH, HIDDEN = 32, 4, 32
SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attn_implementation": "eager",
}
SLIDE, FULL = "sliding_attention", "full_attention"
MIXED = {"sliding_window": 5, "layer_types": [SLIDE, FULL, FULL, SLIDE]}
ATTENTION = {
    "gpt2": ("transformer.h", "attn"),
    "gpt_neo": ("transformer.h", "attn"),
    "gptj": ("transformer.h", "attn"),
    "bloom": ("transformer.h", "self_attention"),
    "falcon": ("transformer.h", "self_attention"),
    "mpt": ("transformer.blocks", "attn"),
    "gpt_neox": ("gpt_neox.layers", "attention"),
    "opt": ("model.decoder.layers", "self_attn"),
}
"""Where the layers are, and where their attention is in them; the usual places of all others."""

NONE: list[int | None] = [None] * DEPTH

UNKNOWN: list[tuple[str, dict[str, Any]]] = [("mistral", MIXED), ("llama", {"sliding_window": 5})]
"""Configs with fields of other types, which transformers reads when it makes a cache, and the code of the model not."""


def config_of(kind: str, **changes: Any) -> Any:
    if kind == "gptj":
        changes = {"rotary_dim": 8}
    if kind == "gpt_neo":
        changes = {"num_layers": DEPTH, "num_heads": 4, "attention_types": [[["global", "local"], 2]], **changes}
    names = {"gpt2": {"n_embd", "n_head", "n_layer"}, "mpt": {"d_model", "n_heads", "n_layers"}}.get(kind, set())
    own = {"n_embd": HIDDEN, "d_model": HIDDEN, "n_head": 4, "n_heads": 4, "n_layer": DEPTH, "n_layers": DEPTH}
    sizes = {**SIZES, **{name: own[name] for name in names}}
    if kind == "falcon":
        del sizes["head_dim"]
    return AutoConfig.for_model(kind, **sizes, **changes)


@pytest.mark.parametrize(
    ("kind", "changes", "windows"),
    [
        ("mistral", {"sliding_window": 5}, [5] * DEPTH),
        ("mistral", {"sliding_window": None}, NONE),
        ("mistral", {}, NONE),  # its default is longer than the context
        ("mistral", MIXED, [5] * DEPTH),  # its code knows no types of layers
        ("ministral", {"sliding_window": 5}, [5] * DEPTH),
        ("ministral", MIXED, [5, None, None, 5]),
        ("ministral3", {"sliding_window": 5}, [5] * DEPTH),
        ("ministral3", {}, NONE),
        ("phi3", {"sliding_window": 6}, [6] * DEPTH),
        ("phi3", {}, NONE),
        ("starcoder2", {"sliding_window": 6}, [6] * DEPTH),
        ("starcoder2", {}, NONE),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}, [None, 5, 5, 5]),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 9}, NONE),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 5, "max_window_layers": 0}, NONE),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 3}, [None] * 3 + [5]),
        ("qwen3", {"use_sliding_window": True, **MIXED}, [5, None, None, 5]),
        ("gemma2", {"sliding_window": 5}, [5, None, 5, None]),
        ("gemma3_text", {"sliding_window": 5, "sliding_window_pattern": 3}, [5, 5, None, 5]),
        ("gemma3_text", {"sliding_window": CONTEXT - 1}, [CONTEXT - 1] * DEPTH),
        ("gemma3_text", {"sliding_window": CONTEXT}, NONE),
        ("cohere2", {"sliding_window": 5}, [5, 5, 5, None]),
        ("cohere2", {"sliding_window": 5, "sliding_window_pattern": 2}, [5, None, 5, None]),
        ("olmo3", {"sliding_window": 5}, [5, 5, 5, None]),
        ("olmo3", MIXED, [5, None, None, 5]),
        ("exaone4", {"sliding_window": 5, "sliding_window_pattern": 4}, [5, 5, 5, None]),
        ("smollm3", {}, NONE),
        (
            "smollm3",
            {"use_sliding_window": True, "sliding_window": 5, "no_rope_layers": [1, 0, 1, 0]},
            [None, 5, None, 5],
        ),
        ("smollm3", {"use_sliding_window": False, "sliding_window": 5, "no_rope_layers": [1, 0, 1, 0]}, NONE),
        ("gpt_neo", {"window_size": 5}, [None, 5, None, 5]),
        ("gpt_neo", {}, NONE),
        ("gpt_neo", {"attention_types": [[["local"], 1], [["global"], 3]], "window_size": 9}, [9, None, None, None]),
        ("gpt_oss", {"sliding_window": 5, "num_local_experts": 4}, [5, None, 5, None]),
        ("llama", {"sliding_window": 5}, NONE),  # its code knows no windows
        *(
            (kind, {}, NONE)
            for kind in (
                *("llama", "gemma", "phi", "gpt2", "gpt_neox", "gptj", "opt", "bloom", "mpt", "falcon", "olmo"),
                *("olmo2", "granite", "stablelm", "cohere", "glm4", "nemotron", "helium", "seed_oss", "ernie4_5"),
                *("hunyuan_v1_dense", "arcee", "apertus"),
            )
        ),
    ],
)
def test_windows_are_what_the_attention_of_each_layer_sees(
    kind: str, changes: dict[str, Any], windows: list[int | None]
) -> None:
    config = config_of(kind, **changes)
    assert windows_of(config) == windows
    assert seen(config) == [window or CONTEXT for window in windows]
    if (kind, changes) not in UNKNOWN:
        assert held(config) == [window or CONTEXT for window in (NONE if kind in WHOLE_CACHES else windows)]


def held(config: Any) -> list[int]:
    """Number of tokens that the cache of each layer holds at most, by the cache that transformers makes for a model."""
    layers = DynamicCache(config=config).layers
    longest = [getattr(layer, "sliding_window", None) or CONTEXT for layer in layers]
    return [min(length, CONTEXT) for length in longest] or [CONTEXT] * DEPTH


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("mistral", {"sliding_window": 0}, "sliding_window 0"),
        ("mistral", {"sliding_window": -4}, "sliding_window -4"),
        ("gemma3_text", {"sliding_window": 0}, "sliding_window 0"),
        ("gpt_neo", {"window_size": 0}, "window_size 0"),
    ],
)
def test_a_window_without_a_token_is_refused(kind: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ModelError, match=f"{kind} model with {field} in its config.json has attention that sees no"):
        windows_of(config_of(kind, **changes))


def test_a_window_that_no_layer_has_may_be_anything() -> None:
    assert windows_of(config_of("qwen2", use_sliding_window=False, sliding_window=0)) == NONE
    assert windows_of(config_of("llama", sliding_window=0)) == NONE


@torch.no_grad()
def seen(config: Any) -> list[int]:
    """Number of tokens that change the output of each layer's attention at the last of ``CONTEXT`` positions."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    model.train(False)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape) * 0.1
    layers, name = ATTENTION.get(config.model_type, ("model.layers", "self_attn"))
    found = []
    for layer in model.get_submodule(layers):
        attention = layer.get_submodule(name)
        plain = torch.randn(1, CONTEXT, config.hidden_size)
        outputs = []
        for changed in (None, *range(CONTEXT)):
            given = plain.clone()
            if changed is not None:
                given[:, changed] += 1.0 + torch.randn(config.hidden_size)
            outputs.append(_attended(model, attention, given))
        found.append(sum(not torch.equal(output, outputs[0]) for output in outputs[1:]))
    return found


def _attended(model: Any, attention: torch.nn.Module, given: torch.Tensor) -> torch.Tensor:
    """Output of one attention module at the last position if ``given``, shape (1, T, D), is what it is given."""
    outputs: list[torch.Tensor] = []

    def instead(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if "hidden_states" in named:
            return arguments, named | {"hidden_states": given}
        return (given, *arguments[1:]), named

    hooks = [
        attention.register_forward_pre_hook(instead, with_kwargs=True),
        attention.register_forward_hook(lambda *of: outputs.append(of[2][0] if isinstance(of[2], tuple) else of[2])),
    ]
    model(torch.full((1, CONTEXT), 3), use_cache=False)
    for hook in hooks:
        hook.remove()
    return outputs[0][0, -1].clone()
