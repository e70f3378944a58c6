"""Layers on several devices."""

from typing import Any

import pytest
import torch

from prunecast.models.families.layer_parts import list_of_layers
from prunecast.models.spread import shares, spread
from prunecast.testing.models import family_of, tiny_model

TOKENS = torch.randint(3, 250, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("rooms", "expected"),
    [
        ([100, 100], [0, 0, 0, 0]),
        ([25, 15, 100], [0, 0, 1, 2]),
        ([5, 25, 0], [1, 1, 2, 2]),
        ([-3, 10, 10], [1, 2, 2, 2]),
    ],
)
def test_devices_are_filled_in_order_and_the_last_takes_the_rest(rooms: list[int], expected: list[int]) -> None:
    assert shares([10, 10, 10, 10], rooms) == expected


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_numbers_are_those_of_one_device(family: str) -> None:
    model: Any = tiny_model(family).to(torch.bfloat16)
    with torch.inference_mode():
        expected = tiny_model(family).to(torch.bfloat16).float()(TOKENS).logits
    devices = [torch.device("cpu"), torch.device("cpu", 0)]  # different to compare, so that hidden states are sent
    spread(model, family_of(model.config), devices, [0, 2**40], torch.float32)
    layers = list_of_layers(model, family_of(model.config))
    assert all(layer._forward_pre_hooks and layer._forward_hooks for layer in layers)
    with torch.inference_mode():
        assert torch.equal(model(TOKENS).logits, expected)
