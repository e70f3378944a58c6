"""Float64, which not every device computes in: those of Apple have none."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_HAVE_IT = ("cpu", "cuda")
"""Types of devices that are known to compute in float64."""


def where_float64_is(tensor: "Tensor") -> "Tensor":
    """The tensor, in its own number format, where float64 can be made of it: on its device, else on the CPU."""
    return tensor if tensor.device.type in _HAVE_IT else tensor.cpu()
