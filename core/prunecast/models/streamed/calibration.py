"""Calibration layer by layer: every layer in turn is a model of its own that reads the text.

Without gradients, layers are visited from the first to the last, and the outputs of one are the inputs of the next.
With gradients, the inputs of all layers are computed first and kept in files. Then layers are visited from the last to
the first: the gradient with respect to the input of a layer is the gradient with respect to the output of the layer
before. The head computes the loss from the output of the last layer.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from prunecast.errors import PluginError
from prunecast.models.streamed.model import BaseCall, LayerCall, StreamedModel
from prunecast.models.streamed.one_layer import Batch, LossOf, OneLayer, continued, key_of

Visit = Callable[[OneLayer, int], None]
"""Function of a model of one layer alone, which has to read every batch once, and of the index of the layer."""

ByKey = dict[bytes, Tensor]
"""A tensor for each batch, on the CPU."""


def visit_layers(streamed: StreamedModel, texts: Sequence[Tensor], visit: Visit, owner: str) -> None:
    """Visit all layers from the first to the last.

    Args:
        streamed: the model.
        texts: batches of token ids, int64 of shape (B, T), on the device.
        visit: called with each layer.
        owner: name of the reader of the text, for messages.

    Raises:
        PluginError: a batch was not read, another one was read, or a loss was asked for.
    """
    calls = _begun(streamed, texts)

    def no_loss(*_: object) -> Tensor:
        raise _mismatch(owner, "asks for a loss, which its `by_layer` does not announce")

    hidden = {key: layers[0].hidden.cpu() for key, layers in calls.items()}
    for index in range(streamed.depth):
        batches = _batches(calls, index, hidden)
        visit(_alone(streamed, index, batches, no_loss, owner), index)
        hidden = _outputs(batches, owner)


def visit_layers_backwards(
    streamed: StreamedModel, texts: Sequence[Tensor], visit: Visit, owner: str, folder: Path
) -> None:
    """Visit all layers from the last to the first; ``visit`` has to differentiate the loss of each batch.

    Args:
        streamed: the model.
        texts: batches of token ids, int64 of shape (B, T), on the device.
        visit: called with each layer.
        owner: name of the reader of the text, for messages.
        folder: folder on a disk, for the inputs of all layers while they are needed.

    Raises:
        PluginError: a batch was not read, another one was read, or one was not differentiated.
    """
    calls = _begun(streamed, texts)
    losses: ByKey = {}

    def loss_of_head(key: bytes, labels: Tensor, output: Tensor) -> Tensor:
        with streamed.ending(output):
            loss: Tensor = streamed.model(labels, labels=labels, use_cache=False).loss
        losses[key] = loss.detach()
        return loss

    loss_of: LossOf = loss_of_head
    with tempfile.TemporaryDirectory(dir=folder) as place:
        inputs = _Inputs(Path(place))
        _keep_inputs(streamed, calls, inputs)
        for index in reversed(range(streamed.depth)):
            batches = _batches(calls, index, inputs.of(index))
            visit(_alone(streamed, index, batches, loss_of, owner), index)
            _outputs(batches, owner)  # raises an error if a batch was not read
            loss_of = _continuing(_gradients(batches, owner), losses)


def _continuing(gradients: ByKey, losses: ByKey) -> LossOf:
    """The loss as a function of the output of the layer before, given the gradients for the inputs of a layer."""
    return lambda key, _, output: continued(output, gradients[key].to(output.device), losses[key])


class _Inputs:
    """Inputs of layers in files, one file for each layer.

    Args:
        folder: folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, index: int, hidden: ByKey) -> None:
        """Write the inputs of a layer."""
        from safetensors.torch import save_file

        save_file({key.hex(): tensor.contiguous() for key, tensor in hidden.items()}, self._file(index))

    def of(self, index: int) -> ByKey:
        """The inputs of a layer, mapped from its file."""
        from safetensors.torch import load_file

        return {bytes.fromhex(name): tensor for name, tensor in load_file(self._file(index)).items()}

    def _file(self, index: int) -> Path:
        return self._folder / f"{index}.safetensors"


def _begun(streamed: StreamedModel, texts: Sequence[Tensor]) -> dict[bytes, list[LayerCall]]:
    with torch.no_grad():
        return {key_of(ids): streamed.begin(BaseCall((ids,), {"use_cache": False})) for ids in texts}


def _batches(calls: Mapping[bytes, list[LayerCall]], index: int, hidden: ByKey) -> dict[bytes, Batch]:
    return {key: Batch(layers[index].with_hidden(hidden[key])) for key, layers in calls.items()}


def _alone(streamed: StreamedModel, index: int, batches: dict[bytes, Batch], loss_of: LossOf, owner: str) -> OneLayer:
    config = streamed.model.config.get_text_config()
    return OneLayer(streamed.load_layer(index), index, config, streamed.family, batches, loss_of, owner)


def _keep_inputs(streamed: StreamedModel, calls: Mapping[bytes, list[LayerCall]], inputs: _Inputs) -> None:
    """Compute and keep the inputs of all layers, with the same operations as in a differentiated forward pass."""
    hidden = {key: layers[0].hidden.cpu() for key, layers in calls.items()}
    for index in range(streamed.depth):
        inputs.keep(index, hidden)
        if index < streamed.depth - 1:
            layer = streamed.load_layer(index).requires_grad_(False)
            with torch.enable_grad():
                hidden = {
                    key: layers[index].with_hidden(hidden[key].clone().requires_grad_()).of(layer).detach().cpu()
                    for key, layers in calls.items()
                }


def _outputs(batches: Mapping[bytes, Batch], owner: str) -> ByKey:
    found = {key: batch.output.cpu() for key, batch in batches.items() if batch.output is not None}
    if len(found) < len(batches):
        raise _mismatch(owner, "leaves out some of the text that its `by_layer` announces")
    return found


def _gradients(batches: Mapping[bytes, Batch], owner: str) -> ByKey:
    found = {key: batch.gradient.cpu() for key, batch in batches.items() if batch.gradient is not None}
    if len(found) < len(batches):
        raise _mismatch(owner, "takes no gradients, though its `by_layer` announces them")
    return found


def _mismatch(owner: str, what: str) -> PluginError:
    return PluginError(f"{owner} {what}: correct it, or set model.placement to one")
