"""Placement of the weights: all on the device, spread over devices and main memory, or streamed from their files."""

from typing import Any, Literal

from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import Pruner
from prunecast.spec.load import error_at
from prunecast.spec.model import Spec

Placement = Literal["one", "spread", "stream"]
"""Where the weights are; see ``model.placement`` of a spec."""


def placement_of(spec: Spec, host: PluginHost, pruner: Pruner[Any]) -> Placement:
    """The placement that a spec names, or the fastest that fits.

    Raises:
        SpecError: the spec asks for something that its placement does not have.
    """
    wanted = spec.model.placement
    if wanted == "stream":
        _check_streamed(spec, host, pruner)
    return "one" if wanted == "auto" else wanted


def _check_streamed(spec: Spec, host: PluginHost, pruner: Pruner[Any]) -> None:
    reason = "has all weights in memory"
    if pruner.by_layer is None:
        owner = host.find("pruner", spec.pruner.use)
        raise error_at(spec, ("pruner", "use"), f"{owner} ranks all layers at once, {_INSTEAD}")
    for section, asked in (("recover", spec.recover), ("neighbours", spec.neighbours)):
        if asked:
            raise error_at(spec, (section,), f"{reason}, {_INSTEAD}")


_INSTEAD = "which model.placement stream cannot: leave it out, or set model.placement to one"
