"""Layers of a model on several devices: each computes where its weights are, and hidden states travel to it."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device  # type: ignore[import-untyped]
from torch import nn

from prunecast.models.families.family import Family
from prunecast.models.families.layer_parts import list_of_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def spread(
    model: "PreTrainedModel", family: Family, devices: Sequence[torch.device], rooms: Sequence[int], dtype: torch.dtype
) -> None:
    """Bring everything but the layers to the first device, and each layer to the first device that has room for it.

    Args:
        model: a model on the CPU, its weights as stored; changed in place.
        family: description of its family.
        devices: the devices, fastest first.
        rooms: bytes that weights may take on each of them.
        dtype: number format of the weights.
    """
    layers, main = list(list_of_layers(model, family)), devices[0]
    sizes = [sum(weight.numel() for weight in layer.parameters()) * dtype.itemsize for layer in layers]
    outside = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize - sum(sizes)
    places = dict.fromkeys(model.modules(), main)
    for layer, number in zip(layers, shares(sizes, [rooms[0] - outside, *rooms[1:]]), strict=True):
        places |= dict.fromkeys(layer.modules(), devices[number])
        if devices[number] != main:
            layer.register_forward_pre_hook(partial(_go, devices[number]), with_kwargs=True)
            layer.register_forward_hook(partial(_return, main))
    for module, device in places.items():
        _bring(module, device, dtype)


def shares(sizes: Sequence[int], rooms: Sequence[int]) -> list[int]:
    """Number of the device of each layer: in order, each device has as many as it has room for, the last all others."""
    found: list[int] = []
    device, left = 0, rooms[0]
    for size in sizes:
        while size > left and device < len(rooms) - 1:
            device += 1
            left = rooms[device]
        found.append(device)
        left -= size
    return found


def _bring(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Bring the parameters and buffers of a module itself; buffers keep their dtype."""
    for weight in module.parameters(recurse=False):
        weight.data = weight.data.to(device, dtype)
    for name, buffer in module.named_buffers(recurse=False):
        setattr(module, name, buffer.to(device))


def _go(device: torch.device, _: nn.Module, arguments: Any, options: Any) -> Any:
    return send_to_device((arguments, options), device)


def _return(main: torch.device, _: nn.Module, __: Any, output: Any) -> Any:
    return send_to_device(output, main)
