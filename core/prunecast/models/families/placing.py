"""The place of every module of a decoder layer: its attention, its MLP, and the norms around them.

Where a module takes its input from tells its place, not its name. Projections that read the residual stream are the
*readers* of a component, and the projection that reads them is its *writer*: the output projection of the attention,
the down projection of the MLP.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunecast.architecture.choices import Component
from prunecast.errors import ModelError
from prunecast.models.families.dataflow import STREAM, Flow, LayerFlow
from prunecast.models.families.layer_parts import is_linear
from prunecast.models.families.rows import mixes_tokens

RESULT = "result"
"""The residual stream that a layer returns, among the readers of a norm."""


@dataclass(frozen=True)
class Part:
    """A component of a layer.

    Attributes:
        writer: its projection back into the residual stream.
        readers: its projections of the residual stream, in the order of the modules.
        modules: what is removed with it: the module that it is, or its projections if they are directly in the layer.
    """

    writer: str
    readers: tuple[str, ...]
    modules: tuple[str, ...]

    def holds(self, name: str) -> bool:
        """True for a module inside of what is removed with the component."""
        return any(name == module or name.startswith(f"{module}.") for module in self.modules)


@dataclass(frozen=True)
class Norms:
    """The norms of a layer, by what needs them; names of modules.

    Attributes:
        attention, mlp, shared, lasting: as in :class:`prunecast.models.families.family.Family`.
        inner: norms inside of the attention, between its projections: what each reads.
    """

    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    shared: tuple[str, ...]
    lasting: tuple[str, ...]
    inner: Mapping[str, frozenset[str]]


class PlacedLayer:
    """A decoder layer with the place of each of its modules.

    Args:
        flow: the forward pass.
        layer: the layer in it.
        shape: rows and tokens of its batch, (B, T).

    Attributes:
        attention, mlp: its components.
        norms: its norms.
        adds_residual: components that add the residual stream to what they return.

    Raises:
        ModelError: a module has no place.
    """

    def __init__(self, flow: Flow, layer: LayerFlow, shape: tuple[int, int]) -> None:
        self._flow, self._layer = flow, layer
        self._check_nodes()
        self._linear = [name for name, module in layer.nodes.items() if is_linear(module)]
        self._other = [name for name in layer.nodes if name not in self._linear]
        parts = self._parts()
        mixing = [mixes_tokens(layer, part.writer, part.readers, shape) for part in parts]
        if sorted(mixing) != [False, True]:
            what = "of both its components read other tokens" if all(mixing) else "of its components reads no others"
            raise ModelError(f"{layer.name}: the projections {what}, and one attention is expected")
        self.attention, self.mlp = (parts[mixing.index(True)], parts[mixing.index(False)])
        if len(self.attention.modules) > 1:
            raise ModelError(f"the projections of the attention of {layer.name} are not in a module of their own")
        self.norms = self._norms()
        self.adds_residual: tuple[Component, ...] = tuple(self._adding())
        self._check_attention_output()

    def _check_nodes(self) -> None:
        """Raise ModelError if a parameter is not that of a projection or a norm, or is not used once."""
        layer = self._layer
        for name, module in layer.nodes.items():
            own = [each for each, _ in module.named_parameters(recurse=False)]
            if any(other.startswith(f"{name}." if name else "") for other in layer.nodes if other != name):
                raise ModelError(f"parameter {_join(layer.name, name, own[0])} belongs to no projection and to no norm")
            calls = layer.calls.get(name, [])
            if own and (not calls or (is_linear(module) and len(calls) > 1)):
                raise ModelError(f"{_join(layer.name, name)} is used {len(calls)} times in a forward pass, not once")
            foreign = sorted(each for each in layer.sources.get(name, ()) if each not in layer.nodes and each != STREAM)
            if foreign:
                shared = any(foreign[0].startswith(f"{other.name}.") for other in self._flow.layers if other != layer)
                what = "keys and values shared between layers" if shared else "an input beside the residual stream"
                raise ModelError(f"{_join(layer.name, name)} reads {foreign[0]}: {what}")

    def _reach(self, name: str) -> set[str]:
        """Projections, and the residual stream, that a node reads, if need be through norms."""
        found: set[str] = set()
        for source in self._layer.sources[name]:
            found |= self._reach(source) if source in self._other else {source}
        return found

    def _parts(self) -> list[Part]:
        reach = {name: self._reach(name) for name in self._linear}
        readers = [name for name in self._linear if STREAM in reach[name]]
        writers = [name for name in self._linear if name not in readers]
        for name in writers:
            if chained := sorted(reach[name] - set(readers)):
                raise ModelError(
                    f"{_join(self._layer.name, name)} reads {chained[0]}, a projection of a projection (latent, or of "
                    "low rank)"
                )
        if len(writers) != 2:
            listed = ", ".join(writers) or "none"
            raise ModelError(f"{self._layer.name} has {len(writers)} components ({listed}), not attention and MLP")
        first, second = (tuple(name for name in readers if name in reach[writer]) for writer in writers)
        if set(first) & set(second) or (unread := set(readers) - {*first, *second}):
            odd = next(iter(set(first) & set(second) or unread))
            raise ModelError(f"{_join(self._layer.name, odd)} belongs to both components, or to none")
        return [Part(w, r, self._modules([*r, w])) for w, r in zip(writers, (first, second), strict=True)]

    def _modules(self, names: Sequence[str]) -> tuple[str, ...]:
        """The module that holds all of the named ones, or these if it is the layer, or is not called."""
        common = ".".join(_common([name.split(".")[:-1] for name in names]))
        return (common,) if common and common in self._layer.calls else tuple(names)

    def _norms(self) -> Norms:
        layer, attention, mlp = self._layer, self.attention, self.mlp
        placed: dict[str, list[str]] = {"attention": [], "mlp": [], "shared": [], "lasting": []}
        inner = {}
        for name in self._other:
            sources = layer.sources.get(name)
            if sources is None:
                continue
            if sources <= set(attention.readers):
                inner[name] = sources
            elif sources <= set(mlp.readers):
                self._check_inside_mlp(name)
            else:
                placed[self._place(name, sources)].append(name)
        for place, names in placed.items():
            for name in names:
                self._check_norm(name, place)
        own = {place: tuple(name for name in names if not self._inside(name)) for place, names in placed.items()}
        return Norms(inner=inner, **own)

    def _inside(self, name: str) -> bool:
        return self.attention.holds(name) or self.mlp.holds(name)

    def _place(self, name: str, sources: frozenset[str]) -> str:
        """What needs a norm that is not inside of a component."""
        if STREAM not in self._reach(name):
            after = self._reach(name)
            if after == {self.attention.writer}:
                return "attention"
            if after == {self.mlp.writer}:
                return "mlp"
            raise ModelError(f"{_join(self._layer.name, name)} reads {', '.join(sorted(sources))}: no place for a norm")
        needed_by = self._needed_by(name)
        if RESULT in needed_by:
            return "lasting"
        return "shared" if len(needed_by) > 1 else needed_by.pop()

    def _needed_by(self, name: str) -> set[str]:
        """Components that read a norm, and :data:`RESULT` if the layer returns it, through other norms or not."""
        found = {RESULT} if name in self._flow.sources(self._layer, self._layer.calls[""][0].made_by) else set()
        for other, sources in self._layer.sources.items():
            if name not in sources:
                continue
            if other in self.attention.readers:
                found.add("attention")
            elif other in self.mlp.readers:
                found.add("mlp")
            elif other in self._other:
                found |= self._needed_by(other)
        return found

    def _check_norm(self, name: str, place: str) -> None:
        module, full = self._layer.nodes[name], _join(self._layer.name, name)
        if matrix := [each for each, weight in module.named_parameters() if weight.ndim > 1]:
            raise ModelError(f"{full} is a {type(module).__name__}, neither a projection nor a norm ({matrix[0]})")
        inside = "attention" if self.attention.holds(name) else "mlp" if self.mlp.holds(name) else place
        if inside != place:
            what = "normalises the residual stream" if place == "lasting" else f"is needed by {place}"
            raise ModelError(f"{full} {what}, and would be removed with the {inside} that it is in")

    def _check_inside_mlp(self, name: str) -> None:
        module = self._layer.nodes[name]
        if any(weight.numel() > 1 for weight in module.parameters()):
            raise ModelError(f"{_join(self._layer.name, name)} has a weight for each channel of the MLP")

    def _adding(self) -> Iterator[Component]:
        """Components that add the residual stream, their second argument, to what they return."""
        names: dict[Component, Part] = {"attention": self.attention, "mlp": self.mlp}
        for component, part in names.items():
            call = self._layer.calls[part.modules[0]][0]
            own = {part.writer, *(name for name in self._other if part.holds(name))}
            if len(part.modules) > 1 or self._flow.sources(self._layer, call.made_by) <= own:
                continue
            written = self._layer.calls[part.writer][0].value
            if len(call.positional) < 2 or not _is_sum(call.value, written, call.positional[1]):
                raise ModelError(
                    f"{_join(self._layer.name, part.modules[0])} returns neither its own output nor the sum of it and "
                    "its second argument"
                )
            yield component

    def _check_attention_output(self) -> None:
        name = self.attention.modules[0]
        output = self._layer.calls[name][0].output
        if not isinstance(output, tuple) or len(output) != 2:
            what = f"{len(output)} values" if isinstance(output, tuple) else f"a {type(output).__name__}"
            raise ModelError(f"{_join(self._layer.name, name)} returns {what}, not a tuple of output and weights")
        if len(self.mlp.modules) == 1 and isinstance(self._layer.calls[self.mlp.modules[0]][0].output, tuple):
            raise ModelError(f"{_join(self._layer.name, self.mlp.modules[0])} returns more than its output")


def _is_sum(total: Any, output: Any, residual: Any) -> bool:
    """True if a total is the sum of two tensors of its shape, but for rounding."""
    if getattr(residual, "shape", None) != total.shape:
        return False
    return bool((total - output - residual).abs().max() <= 1e-5 * total.abs().max())


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    """The parts with which all paths begin."""
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return shared


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)
