"""The elastic model with layers that are not in memory: each is loaded, reordered, cut and compensated in turn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from prunecast.architecture.architecture import Architecture, Layer, LayerImportance
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ModelError
from prunecast.models.cpu.norms import use_fast_norms
from prunecast.models.elastic import Compensation, ElasticLayer, ElasticModel, check_fits
from prunecast.models.families.layer_parts import parts_of
from prunecast.models.streamed.model import LayerCall, StreamedModel
from prunecast.text import counted


class StreamedElastic(ElasticModel):
    """An elastic model of which one layer at a time is in memory; it computes the same as the ordinary one.

    Args:
        streamed: the model; its layers get the sizes of the current architecture.
        shape: its sizes.
        importance: scores of its units, one entry per layer.

    Attributes:
        model: the stock model, to be called as usual.
        shape, architecture, compensation: as in an ordinary elastic model.
        layers: empty, as no layer stays in memory; :meth:`loaded_layer` loads one.

    Raises:
        ModelError: ``importance`` has another number of layers.
    """

    def __init__(self, streamed: StreamedModel, shape: ModelShape, importance: Sequence[LayerImportance]) -> None:
        # The constructor of the base makes all layers, which would load all weights.
        if len(importance) != len(shape.dense.layers):
            raise ModelError(
                f"the ranking has {counted(len(importance), 'layer')}, the model {len(shape.dense.layers)}"
            )
        self.streamed, self.model, self.shape = streamed, streamed.model, shape
        self._importance = importance
        self.compensation: Compensation | None = None
        self.architecture = shape.dense
        self.layers = []
        self._loaded: dict[int, ElasticLayer] = {}
        streamed.current = self._current

    def apply(self, architecture: Architecture) -> None:
        """Switch to an architecture: layers get its sizes when they are loaded the next time."""
        check_fits(architecture, self.shape)
        self.architecture = architecture

    def layer(self, index: int) -> ElasticLayer:
        """The loaded layer."""
        return self._loaded[index]

    @contextmanager
    def loaded_layer(self, index: int) -> Iterator[ElasticLayer]:
        """Load a layer, dense, for the time of the context."""
        streamed = self.streamed
        layer = streamed.load_layer(index)
        use_fast_norms(layer)
        config = self.model.config.get_text_config()
        parts = parts_of(layer.requires_grad_(False), index, config, streamed.family)
        self._loaded[index] = ElasticLayer(parts, streamed.family, self._importance[index])
        del parts, layer
        try:
            yield self._loaded[index]
        finally:
            del self._loaded[index]

    def output(self, call: LayerCall, kept: Layer) -> Tensor:
        """Hidden states, (B, T, D), that the loaded layer returns for a call if it keeps these sizes."""
        layer = self._loaded[call.index]
        layer.apply(kept, partial(self._compensated, call.index, kept))
        return call.of(layer.module)

    @contextmanager
    def _current(self, index: int) -> Iterator[nn.Module]:
        """Load a layer with the sizes of the current architecture, for the time of the context."""
        kept = self.architecture.layers[index]
        with self.loaded_layer(index) as layer:
            layer.apply(kept, partial(self._compensated, index, kept))
            yield layer.module
