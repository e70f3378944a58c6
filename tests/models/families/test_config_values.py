"""Configs of which no model can be made: told in a line, with the field and with what would be right."""

from typing import Any

import pytest
from transformers import AutoConfig, LlamaConfig

from prunecast.errors import ModelError
from prunecast.models.families.config_values import check_counts, check_makes_model
from prunecast.models.families.small import small

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}


@pytest.mark.parametrize("field", ["num_hidden_layers", "n_layer", "num_attention_heads", "vocab_size", "head_dim"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_model_with_none_of_something_is_refused(field: str, value: int) -> None:
    with pytest.raises(ModelError, match=f"model x: {field} is {value} in config.json, and 1 at least in any model"):
        check_counts({field: value, "hidden_act": "silu"}, "x")


def test_numbers_that_a_model_can_have_and_other_things_are_left_to_the_reader() -> None:
    check_counts({"num_hidden_layers": 1, "head_dim": None, "hidden_size": "big", "pad_token_id": 0, "n_inner": 0}, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden_act": "nosuch"},
            "no model with hidden_act 'nosuch', but does with 'silu' .KeyError: 'nosuch'.: corr",
        ),
        ({"rope_parameters": {"rope_type": "zzz", "rope_theta": 1e4}}, "no model with rope_parameters .*'zzz'"),
    ],
)
def test_the_field_of_which_no_model_is_made_is_named(changes: dict[str, Any], message: str) -> None:
    config = LlamaConfig(**SIZES, **changes)
    with pytest.raises(ModelError, match=f"^model x: transformers makes {message}"):
        check_makes_model(config, "model x")
    with pytest.raises(ModelError, match=f"^LlamaConfig: transformers makes {message}"):
        small(config)


def test_two_wrong_fields_are_an_error_too() -> None:
    config = LlamaConfig(**SIZES, hidden_act="nosuch", rope_parameters={"rope_type": "zzz", "rope_theta": 1e4})
    with pytest.raises(ModelError, match=r"^model x: transformers makes no model of its config \(KeyError: "):
        check_makes_model(config, "model x")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_a_config_of_a_model_is_right_in_silence(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    check_makes_model(AutoConfig.for_model(kind, **SIZES), "model x")
    assert capfd.readouterr() == ("", "")
