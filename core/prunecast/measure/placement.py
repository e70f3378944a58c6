"""Placement of the weights: all on the device, spread over devices and main memory, or streamed from their files.

The memory of each placement is estimated from the sizes of the model alone, so that it can be estimated on a machine
that has neither the model nor the memory. Measurements do not depend on the placement.

Calibration computes in float32, so it needs more memory than evaluation; ``auto`` chooses for the two separately.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prunecast.architecture.architecture import Layer, sizes_of
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ModelError
from prunecast.measure.calibrated import is_calibrated
from prunecast.measure.setup import Setup
from prunecast.plugins.interfaces import ByLayer, Pruner
from prunecast.spec.load import error_at
from prunecast.spec.model import Spec
from prunecast.text import amounts
from prunecast.yaml_files.document import KeyPath, dotted

if TYPE_CHECKING:
    import torch

Placement = Literal["one", "spread", "stream"]
"""Place of the weights; see ``model.placement`` of a spec."""

PLACEMENTS: tuple[Placement, ...] = ("one", "spread", "stream")
"""All placements, fastest first."""

Part = Literal["calibration", "evaluation"]
"""A part of a run that has a placement of its own."""

PARTS: tuple[Part, ...] = ("calibration", "evaluation")

TOKENS = 2048
"""Number of tokens that a forward pass is assumed to read at once."""

_CACHE = 2**30
"""Limit of each of two caches: compensated weights, and hidden states that are reused or wait for the next layer."""

_FLOAT32 = 4
"""Bytes of a number in float32."""

_SHARE = 0.8
"""Share of the free memory of a device that layers spread over several may take; the rest is for activations."""


@dataclass(frozen=True)
class Need:
    """Memory that a placement needs, in bytes, without the page cache of mapped files.

    Attributes:
        calibration: peak while units are ranked and moments are gathered, in float32.
        evaluation: peak while architectures are measured, in the dtype of the measurements.
    """

    calibration: int
    evaluation: int


@dataclass(frozen=True)
class Places:
    """The placement of both parts of a run; a calibration that the cache has gets the placement of the evaluation."""

    calibration: Placement
    evaluation: Placement

    @property
    def note(self) -> str | None:
        """A line for the user; None if all is on the device."""
        if self.calibration == self.evaluation == "one":
            return None
        return f"placement of the weights: {self.calibration} for calibration, {self.evaluation} for evaluation"


@dataclass(frozen=True)
class Work:
    """Properties of a run that its memory depends on.

    Attributes:
        shape: sizes of the dense model.
        itemsize: bytes of a weight in the dtype of the measurements.
        reading: how the pruner reads its text; None if it needs all layers at once.
        read: number of tokens of the longest calibration text.
        compensate: method of compensation.
    """

    shape: ModelShape
    itemsize: int
    reading: ByLayer | None
    read: int
    compensate: str

    @classmethod
    def of(cls, spec: Spec, pruner: Pruner[Any], shape: ModelShape, itemsize: int) -> "Work":
        """The work of a spec; ``itemsize`` is the bytes of a weight in the dtype of its measurements."""
        compensate = pruner.options.compensate
        texts = [*pruner.calibration, *(compensate.calibration if compensate.method != "none" else ())]
        read = max((text.samples * text.tokens for text in texts), default=0)
        return cls(shape, itemsize, pruner.by_layer, read, compensate.method)

    def needs(self) -> dict[Placement, Need]:
        """The memory that each placement needs."""
        shape, sizes = self.shape, sizes_of([self.shape.dense])
        attention, mlp = shape.component_costs(sizes, "parameters")
        layers = attention[0] + mlp[0] + shape.shared_costs("parameters")
        whole, largest = shape.fixed + int(layers.sum()), int(layers.max())
        moments = [self._moments(layer) for layer in shape.dense.layers]
        # Gradients, or sums of their products, take about as much as the weights.
        factor = 2 if self.reading is not None and self.reading.gradients else 1
        active = _FLOAT32 * TOKENS * max(8 * shape.hidden_size + 3 * layer.mlp_width for layer in shape.dense.layers)
        # A moment in float32, and in float64 it and its factor.
        solving = 5 * max(moments) if self.compensate == "least-squares" else 0
        kept = active + solving + 2 * min(_CACHE, self.itemsize * whole // 4)
        together = Need(
            calibration=_FLOAT32 * (whole + (factor - 1) * int(layers.sum())) + sum(moments) + active,
            evaluation=self.itemsize * whole + kept,
        )
        # The hidden states of the text before and after a layer; a layer as it is loaded, and as it is reordered.
        hidden = 2 * _FLOAT32 * self.read * shape.hidden_size
        streamed = Need(
            calibration=_FLOAT32 * (shape.fixed + factor * largest) + max(moments) + hidden + active,
            evaluation=self.itemsize * (shape.fixed + 2 * largest) + kept,
        )
        return {"one": together, "spread": together, "stream": streamed}

    def _moments(self, layer: Layer) -> int:
        """Bytes of the second moments of a layer."""
        attention = layer.query_heads * self.shape.head_dim
        return 0 if self.compensate == "none" else _FLOAT32 * (attention**2 + layer.mlp_width**2)


def check_placement(setup: Setup) -> None:
    """Check that the placement that a spec names supports the rest of the spec.

    Raises:
        SpecError: it does not; names the entry of the spec.
    """
    if setup.spec.model.placement == "stream":
        for part in PARTS:
            if obstacle := _obstacle_to_streaming(setup, part):
                path, reason = obstacle
                streaming = "which model.placement stream has not: leave it out, or set the placement to one"
                raise error_at(setup.spec, path, f"{reason}, {streaming}")


def placed(setup: Setup) -> Places:
    """The placements of a set-up on this machine: those that its spec names, or the fastest that fit.

    Raises:
        ModelError: nothing fits, or the placement that is named does not; says how much memory is missing.
    """
    wanted = setup.spec.model.placement
    needs = Work.of(setup.spec, setup.pruner, setup.shape, setup.dtype.itemsize).needs()
    evaluation = _placed(setup, "evaluation", needs, wanted)
    return Places(evaluation if is_calibrated(setup) else _placed(setup, "calibration", needs, wanted), evaluation)


def _placed(setup: Setup, part: Part, needs: Mapping[Placement, Need], wanted: str) -> Placement:
    """The placement of one part."""
    if wanted == "one":  # the user overrides the estimate; loading fails if the weights do not fit
        return "one"
    missing = []
    for placement in PLACEMENTS if wanted == "auto" else [each for each in PLACEMENTS if each == wanted]:
        needed, free = getattr(needs[placement], part), _free(setup.device, placement)
        obstacle = _obstacle_to_streaming(setup, part) if placement == "stream" else None
        if obstacle is None and needed <= free:
            return placement
        if obstacle is not None:
            missing.append(f"stream has no support for {dotted(obstacle[0])}")
        elif placement != "spread" or setup.device.type != "cpu":
            need, more = amounts(needed, needed - free)
            missing.append(f"{placement} needs about {need}, {more} more than is free")
    reasons = "; ".join(missing) or f"{setup.device.type} is one device, with nothing to spread over"
    raise ModelError(
        f"model.placement {wanted}: {setup.source.name} does not fit on {setup.device} for its {part}: {reasons}; free "
        "memory, or use a smaller model or another machine"
    )


def _obstacle_to_streaming(setup: Setup, part: Part) -> tuple[KeyPath, str] | None:
    """Entry of a spec that needs all weights in memory, and the reason; None if there is none."""
    spec = setup.spec
    if part == "calibration":
        ranks = f"the {spec.pruner.use} pruner ranks a model with all of its layers in memory"
        return (("pruner", "use"), ranks) if setup.pruner.by_layer is None else None
    if spec.recover:
        return ("recover",), "training needs all weights in memory"
    if spec.neighbours:
        return ("neighbours",), "local sensitivities need all weights in memory"
    if spec.budget.speeds:
        return ("budget",), "speeds are measured with all weights in memory"
    for section, uses in ((("evaluators",), spec.evaluators), (("verify", "evaluators"), spec.verify.evaluators)):
        for number, use in enumerate(uses):
            if setup.host.find(use.kind, use.use).load().measures_speed:  # type: ignore[attr-defined]
                return (*section, number, "use"), f"{use.use} measures times with all weights in memory"
    return None


def _free(device: "torch.device", placement: Placement) -> int:
    """Free bytes for a placement: on the device, for ``spread`` on all devices of its kind and in main memory."""
    import psutil
    import torch

    main = int(psutil.virtual_memory().available)
    if placement == "spread":
        return sum(room for _, room in devices_beside(device))
    if device.type != "cuda":
        return main  # other accelerators share it
    return int(torch.cuda.mem_get_info(device)[0])


def devices_beside(device: "torch.device") -> "list[tuple[torch.device, int]]":
    """A device, then others of its kind, then the CPU, each with the bytes that weights may take there.

    Only CUDA and ROCm devices have a memory of their own; with another device the list is empty.
    """
    import psutil
    import torch

    if device.type != "cuda":
        return []
    numbers = sorted(range(torch.cuda.device_count()), key=lambda number: number != (device.index or 0))
    rooms = [(torch.device("cuda", number), int(torch.cuda.mem_get_info(number)[0])) for number in numbers]
    rooms.append((torch.device("cpu"), int(psutil.virtual_memory().available)))
    return [(place, int(_SHARE * room)) for place, room in rooms]
