"""The ``recover`` section of a spec: how the chosen architecture is trained after it was pruned."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from prunecast.plugins.interfaces import KeyedOptions

Part = Literal["query", "key", "value", "output", "gate", "up", "down"]
"""A projection of a layer, under the name it has in :class:`prunecast.models.families.Family`."""

PARTS: tuple[Part, ...] = ("query", "key", "value", "output", "gate", "up", "down")


class _Training(KeyedOptions):
    """What all methods have in common: one pass of AdamW with linear warm-up and linear decay to zero."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    immaterial: ClassVar[frozenset[str]] = frozenset({"gradient_checkpointing"})

    epochs: float = Field(2.0, gt=0, description="How often every example is seen.")
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Number of optimiser steps, whatever the epochs; from the epochs if not given."
    )
    batch: int = Field(64, ge=1, description="Examples of one optimiser step.")
    micro_batch: int = Field(4, ge=1, description="Examples computed at a time; less needs less memory.")
    warmup: float = Field(0.05, ge=0, le=1, description="Share of the steps over which the learning rate rises.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the training; auto is bfloat16 where products are faster so, else float32.",
    )
    gradient_checkpointing: bool | None = Field(
        None, description="Trade time for memory; if not given, on an accelerator but not on a CPU."
    )
    seed: int = Field(0, ge=0, description="Seed of the order, the dropout and the new weights.")


class _Adapters(BaseModel):
    """Low-rank adapters (arXiv 2106.09685)."""

    rank: int = Field(8, ge=1, description="Rank of the adapters.")
    alpha: int = Field(16, ge=1, description="Their weight is alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Share of their inputs that is dropped in training.")
    targets: list[Part] = Field(
        default=list(PARTS), min_length=1, description="Projections that get an adapter; all of the family by default."
    )


class _Instructions(_Training, _Adapters):
    """Low-rank adapters trained on instructions."""

    dataset: str = Field("alpaca", min_length=1, description="Data set with instruction, input and output.")
    split: str = Field("train", min_length=1, description="Its split.")
    tokens: int = Field(256, ge=2, description="Longest example in tokens; longer ones are cut at the end.")
    learning_rate: float = Field(1e-4, gt=0, description="Highest learning rate.")


class LoraRecovery(_Instructions):
    """Low-rank adapters trained on instructions and merged into the weights; defaults are those of LLM-Pruner
    (arXiv 2305.11627, section 4.1)."""

    method: Literal["lora"]


class QloraRecovery(_Instructions):
    """The same with the frozen weights in 4 bits while training (arXiv 2305.14314); needs a CUDA GPU."""

    method: Literal["qlora"]


class DistillRecovery(_Training, _Adapters):
    """Kullback-Leibler divergence to the dense model's next-token distributions on plain text."""

    method: Literal["distill"]
    parameters: Literal["full", "lora"] = Field("full", description="Train all weights, or low-rank adapters.")
    dataset: str = Field("wikipedia", min_length=1, description="Data set of plain text.")
    split: str = Field("calibration", min_length=1, description="Its split.")
    samples: int = Field(512, ge=1, description="Number of windows of text.")
    tokens: int = Field(256, ge=2, description="Length of a window in tokens.")
    temperature: float = Field(1.0, gt=0, description="Softens both distributions; the loss is scaled by its square.")
    batch: int = Field(8, ge=1, description="Windows of one optimiser step.")
    epochs: float = Field(1.0, gt=0, description="How often every window is seen.")
    learning_rate: float = Field(5e-5, gt=0, description="Highest learning rate.")


Recovery = Annotated[LoraRecovery | QloraRecovery | DistillRecovery, Field(discriminator="method")]
