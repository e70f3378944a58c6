"""The ``recover`` section of a spec: training of the best architecture after pruning."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from prunecast.plugins.bos import Bos
from prunecast.plugins.interfaces import KeyedOptions

Part = Literal["query", "key", "value", "output", "gate", "up", "down"]
"""A projection of a layer, under the name it has in :class:`prunecast.models.families.family.Family`."""

PARTS: tuple[Part, ...] = ("query", "key", "value", "output", "gate", "up", "down")


class _Training(KeyedOptions):
    """Options of all methods: AdamW with linear warm-up and linear decay to zero."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    immaterial: ClassVar[frozenset[str]] = frozenset({"gradient_checkpointing"})

    epochs: float = Field(2.0, gt=0, description="Number of passes over the examples.")
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Number of optimiser steps, in place of the epochs; computed from the epochs if not given."
    )
    batch: int = Field(64, ge=1, description="Examples per optimiser step.")
    micro_batch: int = Field(4, ge=1, description="Examples computed at a time; fewer need less memory.")
    warmup: float = Field(0.05, ge=0, le=1, description="Share of the steps over which the learning rate rises.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the training; auto is bfloat16 where the hardware multiplies it faster, else "
        "float32.",
    )
    gradient_checkpointing: bool | None = Field(
        None,
        description="True saves memory at the price of time; if not given, true on an accelerator, false on a CPU.",
    )
    seed: int = Field(0, ge=0, description="Seed of the order of the examples, the dropout and the initial adapters.")
    bos: Bos = Field(
        "auto",
        description="Beginning-of-sequence token in front of each example; auto: for families that need it, such as "
        "Gemma. It counts towards the tokens of an instruction, and comes on top of those of a window.",
    )


class _Adapters(BaseModel):
    """Low-rank adapters (arXiv 2106.09685)."""

    rank: int = Field(8, ge=1, description="Rank of the adapters.")
    alpha: int = Field(16, ge=1, description="The output of an adapter is multiplied by alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Share of the adapters' inputs that is dropped in training.")
    targets: list[Part] = Field(
        default=list(PARTS),
        min_length=1,
        description="Projections that get an adapter; by default all that the family has.",
    )


class _Instructions(_Training, _Adapters):
    """Low-rank adapters trained on instructions."""

    dataset: str = Field("alpaca", min_length=1, description="Data set with instruction, input and output.")
    split: str = Field("train", min_length=1, description="Split of the data set.")
    tokens: int = Field(
        256, ge=2, description="Greatest length of an example in tokens; longer ones are truncated at the end."
    )
    learning_rate: float = Field(1e-4, gt=0, description="Highest learning rate.")


class LoraRecovery(_Instructions):
    """Low-rank adapters trained on instructions and merged into the weights; defaults are those of LLM-Pruner
    (arXiv 2305.11627, section 4.1)."""

    method: Literal["lora"]


class QloraRecovery(_Instructions):
    """Low-rank adapters trained on instructions, the frozen weights in 4 bits (arXiv 2305.14314); needs a CUDA GPU."""

    method: Literal["qlora"]


class DistillRecovery(_Training, _Adapters):
    """Distillation: the loss is the Kullback-Leibler divergence to the dense model's next-token distributions on plain
    text."""

    method: Literal["distill"]
    parameters: Literal["full", "lora"] = Field("full", description="Train all weights, or low-rank adapters.")
    dataset: str = Field("wikipedia", min_length=1, description="Data set of plain text.")
    split: str = Field("calibration", min_length=1, description="Split of the data set.")
    samples: int = Field(512, ge=1, description="Number of windows of text.")
    tokens: int = Field(256, ge=2, description="Length of a window in tokens.")
    temperature: float = Field(
        1.0, gt=0, description="Temperature of both distributions; the loss is multiplied by its square."
    )
    batch: int = Field(8, ge=1, description="Windows per optimiser step.")
    epochs: float = Field(1.0, gt=0, description="Number of passes over the windows.")
    learning_rate: float = Field(5e-5, gt=0, description="Highest learning rate.")


Recovery = Annotated[LoraRecovery | QloraRecovery | DistillRecovery, Field(discriminator="method")]
