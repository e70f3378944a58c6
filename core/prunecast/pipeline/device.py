"""Where a model is measured, and in which number format."""

from typing import TYPE_CHECKING

from prunecast.errors import ModelError

if TYPE_CHECKING:
    import torch


def choose_device(wanted: str) -> "torch.device":
    """The device a spec asks for; ``auto`` is the accelerator if there is one. Raises ModelError if it is not there."""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if wanted == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ModelError(f"model.device {wanted!r} is no device: use auto, cpu, cuda, cuda:0 or mps") from error
    if device.type != "cpu" and (accelerator is None or accelerator.type != device.type):
        found = accelerator.type if accelerator else "none"
        raise ModelError(f"model.device {wanted!r} is not available here (accelerator: {found}): use auto or cpu")
    return device


def choose_dtype(wanted: str, device: "torch.device") -> "torch.dtype":
    """The number format a spec asks for; ``auto`` is bfloat16 where the hardware multiplies it, else float32.

    Of accelerators that are neither CUDA nor ROCm devices it is not known that they do.
    """
    import torch

    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type == "cpu":
        fast = any("bf16" in name and present for name, present in torch.cpu.get_capabilities().items())
    else:
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32
