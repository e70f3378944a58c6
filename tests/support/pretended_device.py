"""A simulated device without float64: its tensors are stored on the CPU but cannot be mixed with CPU tensors."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy")
"""A device type whose name exists in every build of torch, without an implementation."""

BETWEEN = {"to", "_to_copy", "copy_", "index", "index_put_", "_unsafe_index"}
"""Operations that accept tensors of both devices; indices may be on either."""


class Elsewhere(torch.Tensor):
    """A CPU tensor that reports the simulated device."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "Elsewhere":
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE
        )
        made.here = here
        return made  # type: ignore[no-any-return]

    def __init__(self, here: torch.Tensor) -> None: ...

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """Mode in which tensors can be created on the simulated device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})


def computed(function: Any, args: Any, kwargs: Any) -> Any:
    name = function._schema.name.partition("::")[2]
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    away = [isinstance(tensor, Elsewhere) for tensor in given]
    if name not in BETWEEN and any(away) and any(t.ndim for t, a in zip(given, away, strict=True) if not a):
        raise RuntimeError(f"{name}: tensors are on two devices")
    asked = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
    goes = asked[0].type == DEVICE.type if asked else any(away[:1] if name in BETWEEN else away)
    result = function(*tree_map(brought, args), **tree_map(brought, kwargs))
    return tree_map(lambda made: placed(made, given, goes, name), result)


def brought(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.here if isinstance(value, Elsewhere) else value


def placed(made: Any, given: list[torch.Tensor], goes: bool, name: str) -> Any:
    if not isinstance(made, torch.Tensor):
        return made
    for tensor in given:  # an in-place operation returns one of its arguments
        if brought(tensor) is made and isinstance(tensor, Elsewhere) == goes:
            return tensor
    if goes and made.dtype == torch.float64:
        raise TypeError(f"{name}: the device has no float64")
    return Elsewhere(made) if goes else made


@contextmanager
def pretended_device(patch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The simulated device, available inside the context."""
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    patch.setattr(torch, DEVICE.type, torch.cpu, raising=False)  # looked up by gradient checkpointing
    # Inference tensors cannot be wrapped.
    patch.setattr(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else nullcontext())
    try:
        with Pretended():
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
