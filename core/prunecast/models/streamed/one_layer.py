"""A model of one decoder layer, in place of the whole one, for pruners that rank layer by layer.

Notation:
    B, T, D  rows of a batch, tokens of a row, hidden size
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from prunecast.errors import PluginError
from prunecast.models.families.family import Family
from prunecast.models.projections import OwnConfig
from prunecast.models.streamed.model import LayerCall

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LossOf = Callable[[bytes, Tensor, Tensor], Tensor]
"""Loss of a batch, from its key, its token ids (B, T) and the hidden states that the layer returns, (B, T, D)."""


@dataclass
class Batch:
    """A batch of calibration text at one layer.

    Attributes:
        call: the call of the layer.
        output: hidden states that the layer returned, (B, T, D).
        gradient: gradient with respect to the hidden states that the layer got, (B, T, D); None without a loss.
    """

    call: LayerCall
    output: Tensor | None = None
    gradient: Tensor | None = None

    def keep_gradient(self, gradient: Tensor) -> None:
        """Keep the gradient with respect to the hidden states that the layer got, (B, T, D)."""
        self.gradient = gradient.detach()


def key_of(ids: Tensor) -> bytes:
    """Key of a batch of token ids, 16 bytes."""
    return blake2b(repr(tuple(ids.shape)).encode() + ids.cpu().numpy().tobytes(), digest_size=16).digest()


class OneLayer(nn.Module):
    """A model whose only layer is one of the layers of another model.

    It has all that a pruner that ranks layer by layer may use: its parameters, its layer at the place that the
    description of the family names, ``config``, ``base_model(ids, use_cache=False)``, and ``model(ids, labels=ids,
    use_cache=False)``, whose ``loss`` has the gradient that it would have in the whole model. Its hidden states
    were computed before by the whole model.

    Args:
        layer: the layer.
        index: its number in the whole model.
        config: config of the whole text model.
        family: description of the family.
        batches: the batches that the layer reads, by key.
        loss_of: loss of a batch.
        owner: name of the reader of the batches, for messages.

    Calling it raises PluginError for any other batch.
    """

    def __init__(
        self,
        layer: nn.Module,
        index: int,
        config: "PretrainedConfig",
        family: Family,
        batches: Mapping[bytes, Batch],
        loss_of: LossOf,
        owner: str,
    ) -> None:
        super().__init__()
        self.config, self._batches = _config_of_one(config, index), batches
        self._loss_of, self._owner = loss_of, owner
        *parents, last = family.layers.split(".")
        place: nn.Module = self
        for name in parents:
            place.add_module(name, nn.Module())
            place = place.get_submodule(name)
        place.add_module(last, nn.ModuleList([layer]))
        # In tuples, so that they are not registered as modules.
        self._layer, self._embeddings = (layer,), (nn.Identity(),)

    @property
    def device(self) -> torch.device:
        """Device of the layer."""
        return next(self.parameters()).device

    @property
    def base_model(self) -> "Callable[..., Any]":
        """The model without its head, whose ``last_hidden_state`` is the output of the layer."""
        return lambda ids, **_: SimpleNamespace(last_hidden_state=self._read(ids)[1])

    def get_input_embeddings(self) -> nn.Module:
        """A module in place of the embeddings, which is not called, as hidden states were computed before."""
        return self._embeddings[0]

    def forward(self, ids: Tensor, labels: Tensor, **_: Any) -> Any:
        """The ``loss`` of a batch, whose labels are its own tokens."""
        key, output = self._read(ids)
        return SimpleNamespace(loss=self._loss_of(key, labels, output))

    def _read(self, ids: Tensor) -> tuple[bytes, Tensor]:
        key = key_of(ids)
        batch = self._batches.get(key)
        if batch is None:
            raise PluginError(
                f"{self._owner} reads {tuple(ids.shape)} tokens at once that its `by_layer` does not announce: correct "
                "it, or set model.placement to one"
            )
        hidden = batch.call.hidden.detach()
        if torch.is_grad_enabled():
            hidden = hidden.clone().requires_grad_()
            hidden.register_hook(batch.keep_gradient)  # type: ignore[no-untyped-call]
        output = batch.call.with_hidden(hidden).of(self._layer[0])
        batch.output = output.detach()
        return key, output


class _Continued(torch.autograd.Function):
    """A loss whose gradient with respect to the output of a layer is known from the layers after it."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, gradient: Tensor, loss: Tensor) -> Tensor:
        ctx.gradient = gradient
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:  # the factor of the loss is in the gradient already
        return ctx.gradient, None, None


def continued(output: Tensor, gradient: Tensor, loss: Tensor) -> Tensor:
    """The loss, with a known gradient with respect to ``output``, whatever factor it is multiplied by.

    Args:
        output: output of a layer, (B, T, D).
        gradient: of the loss, times its factor, with respect to ``output``.
        loss: its value.
    """
    result: Tensor = _Continued.apply(output, gradient, loss)  # type: ignore[no-untyped-call]
    return result


def _config_of_one(config: "PretrainedConfig", index: int) -> OwnConfig:
    """The config for one of the layers alone."""
    alone: Any = OwnConfig(config)
    alone.num_hidden_layers = 1
    if sizes := getattr(config, "per_layer_config", None):
        alone.per_layer_config = [sizes[index]]
    alone.get_text_config = lambda: alone
    own: OwnConfig = alone
    return own
