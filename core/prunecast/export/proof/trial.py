"""A small random model of a family in float64: the stock model, and its elastic, exported and smaller stock forms."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunecast.architecture.architecture import Architecture, LayerImportance
from prunecast.architecture.shape import ModelShape
from prunecast.export.proof.masked import masked
from prunecast.export.sliced import SlicedFolder
from prunecast.models.elastic import ElasticModel
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import shape_of
from prunecast.models.families.small import small

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

ROWS, TOKENS = 2, 12
"""Number of prompts and their length, which is more than a small sliding window."""

SEED = 0

EAGER = "eager"
"""Name of the attention implementation that every class has."""


class InFloat64(TorchFunctionMode):
    """Replaces float32 by float64, as stock norms and softmax ask for float32 whatever the dtype of the model."""

    def __enter__(self) -> Any:
        """Make float64 the default dtype."""
        self._before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: object) -> None:
        """Restore the default dtype."""
        torch.set_default_dtype(self._before)
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func`` with float64 in place of float32."""
        if func is Tensor.float:
            func = Tensor.double
        named = {name: _double(value) for name, value in (kwargs or {}).items()}
        return func(*map(_double, args), **named)


def _double(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


class Trial:
    """A small random model of a family.

    Weights, biases and norms are random, so that an error in handling them shows. So is the order of its units, in
    which no unit stays in its place.

    Args:
        config: config of a model of the family; it is not changed.
        family: description of the family, as settled for it.
        attention: the implementation of attention of stock and elastic model; None for the class's own choice.

    Attributes:
        family: the description.
        config: the small config.
        shape: sizes of the small model.
        importance: scores of its units.
        tokens: int64 token ids, shape (ROWS, TOKENS).
        current: the architecture that was computed last.

    Raises:
        ModelError: the config class cannot be shrunk, or the description does not fit the modules.
    """

    def __init__(self, config: "PreTrainedConfig", family: Family, attention: str | None = None) -> None:
        self.family, self.config, self._attention = family, small(config), attention
        self.shape: ModelShape = shape_of(self.config, family)
        self.current = self.shape.dense
        rng = np.random.default_rng(SEED)
        self.importance = [
            LayerImportance(
                _scores(rng, kept.kv_groups),
                np.array([_scores(rng, kept.heads_per_group) for _ in range(kept.kv_groups)]),
                _scores(rng, kept.mlp_width),
            )
            for kept in self.shape.dense.layers
        ]
        generator = torch.Generator().manual_seed(SEED)
        self.tokens = torch.randint(0, self.config.vocab_size, (ROWS, TOKENS), generator=generator)

    @cached_property
    def stock(self) -> "PreTrainedModel":
        """The dense stock model."""
        return _randomised(self._new(self.config))

    @cached_property
    def eager(self) -> "Trial | None":
        """The same trial with eager attention, which reads other attributes; None if this is the class's own choice."""
        chosen = self.stock.config._attn_implementation
        return None if chosen == EAGER else Trial(self.config, self.family, EAGER)

    @cached_property
    def elastic(self) -> ElasticModel:
        """The elastic form of a copy of the stock model."""
        return ElasticModel(copy.deepcopy(self.stock), self.family, self.shape, self.importance)

    def logits(self, model: Any) -> Tensor:
        """Logits (ROWS, TOKENS, V) of the tokens, computed without a cache."""
        logits: Tensor = model(self.tokens, use_cache=False).logits
        return logits

    def of_elastic(self, architecture: Architecture) -> Tensor:
        """Logits of the elastic model, which is switched to this architecture."""
        self._apply(architecture)
        return self.logits(self.elastic.model)

    def of_masked(self, architecture: Architecture) -> Tensor:
        """Logits of the dense stock model with the removed units masked."""
        with masked(self.stock, self.family, architecture, self.importance):
            return self.logits(self.stock)

    def sees(self, architecture: Architecture, back: int) -> bool:
        """True if the last token's logits, in the masked stock model, depend on the token ``back`` before it."""
        changed = self.tokens.clone()
        changed[:, -1 - back] = (changed[:, -1 - back] + 1) % self.config.vocab_size
        with torch.inference_mode(), masked(self.stock, self.family, architecture, self.importance):
            here, there = (self.stock(tokens, use_cache=False).logits[:, -1] for tokens in (self.tokens, changed))
        return not torch.equal(here, there)

    @contextmanager
    def exported(self, architecture: Architecture) -> "Iterator[PreTrainedModel]":
        """The model of an architecture, written as an export and loaded again."""
        self._apply(architecture)
        state = self.elastic.state_dict()
        with SlicedFolder.written(self.config, self.family, state, architecture) as folder:
            yield folder.load(torch.float64, torch.device("cpu"))

    def smaller(self, architecture: Architecture) -> "PreTrainedModel":
        """The stock model of the class with the sizes of a uniform architecture in its config, and the pruned weights.

        Raises:
            RuntimeError: it has other parameters than the pruned model.
        """
        self._apply(architecture)
        model = self._new(self._resized(architecture))
        state = {name: tensor for name, tensor in self.elastic.state_dict().items() if name in model.state_dict()}
        lacking = sorted(set(model.state_dict()) - set(state))
        if lacking:
            raise RuntimeError(f"{lacking[0]} is not among the weights of the pruned model")
        model.load_state_dict(state)
        return model

    def _apply(self, architecture: Architecture) -> None:
        self.current = architecture
        self.elastic.apply(architecture)

    def _resized(self, architecture: Architecture) -> "PreTrainedConfig":
        """The small config with the sizes of a uniform architecture."""
        kept, family = architecture.layers[0], self.family
        config: Any = copy.deepcopy(self.config)
        setattr(config, family.heads_attribute, kept.query_heads)
        if family.groups_attribute is not None:
            setattr(config, family.groups_attribute, kept.kv_groups)
        if self.has(family.width_attribute):
            setattr(config, family.width_attribute, kept.mlp_width)
        return config  # type: ignore[no-any-return]

    def has(self, attribute: str) -> bool:
        """True if the config has this attribute, or one that its class maps it to."""
        return self.config.attribute_map.get(attribute, attribute) in vars(self.config)

    def _new(self, config: "PreTrainedConfig") -> "PreTrainedModel":
        """A stock model in float64 and evaluation mode."""
        from transformers import AutoModelForCausalLM

        made: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float64, attn_implementation=self._attention, trust_remote_code=False
        )
        model: PreTrainedModel = made.requires_grad_(False).eval()
        return model


def _randomised(model: "PreTrainedModel") -> "PreTrainedModel":
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.2
        nn.init.constant_(parameter, 1.0 if parameter.ndim == 1 else 0.0).add_(noise)
    return model


def _scores(rng: np.random.Generator, count: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Scores by which no unit keeps its place in the order, unless there is only one."""
    scores = rng.permutation(count).astype(np.float64)
    while count > 1 and (np.argsort(-scores) == np.arange(count)).any():
        scores = rng.permutation(count).astype(np.float64)
    return scores
