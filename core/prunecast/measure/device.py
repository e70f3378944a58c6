"""Device and number format of the measurements, and the speed of matrix products in them."""

import platform
import time
from typing import TYPE_CHECKING

from prunecast.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


def choose_device(wanted: str) -> "torch.device":
    """Device named by a spec; ``auto`` is the accelerator if there is one. Raises ModelError if it does not exist."""
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
    if device.type != "cpu" and (device.index or 0) >= (count := torch.accelerator.device_count()):
        raise ModelError(f"model.device {wanted!r} is not available here: the last one is {device.type}:{count - 1}")
    return device


def choose_dtype(wanted: str, device: "torch.device") -> "torch.dtype":
    """Number format named by a spec; ``auto`` is bfloat16 where the hardware multiplies it faster, else float32.

    Accelerators other than CUDA and ROCm devices count as not faster, because their speed is unknown.
    """
    import torch

    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type == "cpu":
        fast = is_faster_in_bfloat16(torch.cpu.get_capabilities())
    else:
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def is_faster_in_bfloat16(capabilities: "Mapping[str, object]") -> bool:
    """True if a processor with these ``torch.cpu.get_capabilities()`` multiplies bfloat16 faster than float32.

    Intel's processors are faster only with AMX, which a virtual machine may hide: in the time of two AVX-512 products
    of float32 they start one of bfloat16 (150 against 240 GFLOPS on two such cores of a Xeon).
    """
    named = {name for name, present in capabilities.items() if "bf16" in name and present}
    if "Intel" in str(capabilities.get("cpu_name", "")):
        named.discard("avx512_bf16")
    return bool(named)


def device_name(device: "torch.device") -> str:
    """Name of the accelerator or of the processor of this machine."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    name = torch.cpu.get_capabilities().get("cpu_name") if device.type == "cpu" else None
    return str(name or f"{device.type} {platform.processor() or platform.machine()}")


def macs_per_second(width: int, dtype: "torch.dtype", device: "torch.device") -> float:
    """Multiply-accumulates a second of a matrix product of a model with this hidden size: the fastest of several."""
    import torch

    rows = 1024
    left = torch.ones(rows, width, dtype=dtype, device=device)
    right = torch.ones(width, 4 * width, dtype=dtype, device=device)

    def seconds() -> float:
        start = time.perf_counter()
        (left @ right)[0, 0].item()  # waits for the device
        return time.perf_counter() - start

    # The first product is slow, and so are those during which another process computes.
    return rows * width * 4 * width / min(seconds() for _ in range(9))
