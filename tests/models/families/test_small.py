"""Small configs of big ones: a layer of each kind, sizes in proportion, short windows; and classes without any."""

import copy
from typing import Any

import pytest
from transformers import (
    CONFIG_MAPPING,
    Cohere2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from prunecast.errors import ModelError
from prunecast.models.families.sizes import model_without_weights
from prunecast.models.families.small import WINDOW, small
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost

GEMMA_270M: dict[str, Any] = {
    "hidden_size": 640,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 2048,
    "vocab_size": 262144,
    "sliding_window": 512,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
}


@pytest.mark.parametrize("kind", sorted(families_of(PluginHost.discover())))
def test_the_default_of_every_described_family_becomes_small(kind: str) -> None:
    config = CONFIG_MAPPING[kind]()
    before = config.to_dict()
    made = small(config)
    assert type(made) is type(config)
    assert config.to_dict() == before
    assert made.num_hidden_layers in (2, 3)
    assert model_without_weights(made).num_parameters() < 120_000


def test_a_layer_of_each_kind_remains_and_windows_are_shorter_than_a_prompt() -> None:
    made = small(Gemma3TextConfig(**GEMMA_270M))
    assert made.layer_types == ["sliding_attention", "sliding_attention", "full_attention"]
    assert made.sliding_window == WINDOW < 12
    neo = small(GPTNeoConfig(num_layers=6, attention_types=[[["global", "local"], 3]]))
    assert (neo.attention_layers, neo.attention_types) == (["global", "local", "global"], [[neo.attention_layers, 1]])
    assert GPTNeoConfig(**neo.to_dict()).attention_layers == neo.attention_layers


def test_ratios_are_kept() -> None:
    gemma = small(Gemma3TextConfig(**GEMMA_270M))
    assert (gemma.num_attention_heads, gemma.num_key_value_heads) == (4, 1)
    assert gemma.hidden_size / (gemma.num_attention_heads * gemma.head_dim) == 640 / (4 * 256)
    qwen = small(Qwen3Config(hidden_size=1024, num_attention_heads=16, num_key_value_heads=8, head_dim=128))
    assert qwen.num_attention_heads == 2 * qwen.num_key_value_heads
    assert qwen.num_attention_heads * qwen.head_dim == 2 * qwen.hidden_size
    phi = small(PhiConfig(partial_rotary_factor=0.4, rope_parameters=None))
    width = phi.hidden_size // phi.num_attention_heads
    assert width * 0.4 % 2 == pytest.approx(0)
    gpt = small(GPT2Config())
    assert gpt.n_inner is None
    assert gpt.n_positions < 100


def test_tokens_are_in_the_small_vocabulary() -> None:
    made = small(Cohere2Config(bos_token_id=5, eos_token_id=255001, pad_token_id=0))
    assert (made.bos_token_id, made.pad_token_id) == (5, 0)
    assert made.eos_token_id == made.vocab_size - 1


def test_a_small_config_stays_as_it_is() -> None:
    once = small(Gemma3TextConfig(**GEMMA_270M))
    assert small(copy.deepcopy(once)).to_dict() == once.to_dict()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CONFIG_MAPPING["deepseek_v3"](), "q_a_proj.weight would still have 1,536 rows or columns, .* 'q_lora_rank'"),
        (CONFIG_MAPPING["mamba"](), "it has no number 'num_attention_heads'"),
        (CONFIG_MAPPING["diffllama"](), "its field 'num_key_value_heads' cannot be 3: DiffLlama requires"),
        (CONFIG_MAPPING["gemma3"](), "its field 'text_config' is a config of its own"),
    ],
)
def test_a_class_that_cannot_be_small_is_refused_with_the_field(config: PreTrainedConfig, message: str) -> None:
    with pytest.raises(
        ModelError, match=f"config class {type(config).__name__} cannot be shrunk .*{message}"
    ) as caught:
        small(config)
    assert "\n" not in str(caught.value)
