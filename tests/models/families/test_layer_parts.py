"""Layers that a description does not locate are refused in a line, and parts that are not there make no noise."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from prunecast.errors import ModelError
from prunecast.models.families.family import Family
from prunecast.models.families.layer_parts import layers_of

LLAMA = Family("llama")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": "model"}, "layers='model', which is a LlamaModel, not a list of layers"),
        ({"layers": ""}, "layers='', which is a LlamaForCausalLM, not a list of layers"),
        ({"layers": "model.layers.0"}, "layers='model.layers.0', which is a LlamaDecoderLayer, not a list of layers"),
        ({"layers": "model.norm"}, "layers='model.norm', which is a LlamaRMSNorm, not a list of layers"),
        ({"heads_attribute": "model_type"}, "which the config has as 'llama', not a number of heads"),
        ({"heads_attribute": "nothing"}, "which the config does not have"),
    ],
)
def test_a_place_without_layers_is_refused(
    changes: dict[str, Any], message: str, tiny_model: Callable[..., Any]
) -> None:
    with pytest.raises(ModelError, match=f"family 'llama' is described with .*{message}"):
        list(layers_of(tiny_model("llama"), replace(LLAMA, **changes)))


def test_a_list_of_something_else_is_refused(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model.config.num_hidden_layers += 1
    count = len(model.model.layers)
    with pytest.raises(ModelError, match=f"which is a list of {count} modules for {count + 1} layers"):
        list(layers_of(model, LLAMA))


def test_projections_that_are_not_there_are_made_in_silence(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    model.config.per_layer_config = {0: {"num_attention_heads": 0, "intermediate_size": 0}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, *_ = layers_of(model, LLAMA)
    assert first.sizes == (0, 0, 0)
    assert first.query.weight().shape == (0, model.config.hidden_size)
