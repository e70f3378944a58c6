"""The ``budget`` section of a spec: upper limits on what an architecture may cost."""

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from prunecast.architecture.budget import PERCENT, check_is_no_percentage
from prunecast.architecture.shape import CONTEXTUAL, QUANTITIES, Quantity
from prunecast.architecture.speed import SPEEDS, Speed


def _no_percentage(value: float | None, info: ValidationInfo) -> float | None:
    if value is not None:
        check_is_no_percentage(value, info.field_name or "")
    return value


_AS_SCHEMA = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "number", "exclusiveMinimum": PERCENT},
        {"type": "null"},
    ]
}

Limit = Annotated[Annotated[float, Field(gt=0)] | None, AfterValidator(_no_percentage), WithJsonSchema(_AS_SCHEMA)]
"""Up to 1 a fraction of the dense model, above that an absolute number; None for no limit."""

Milliseconds = Annotated[float, Field(gt=0)] | None
"""Up to 1 a fraction of the dense model, above that milliseconds; None for no limit."""


class BudgetSpec(BaseModel):
    """Upper limits: a value up to 1 is a fraction of the dense model, a larger one an absolute number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    parameters: Limit = Field(None, description="All parameters, embeddings included.")
    parameters_without_embeddings: Limit = Field(
        None, description="Parameters but for those of the input and output embeddings."
    )
    macs: Limit = Field(None, description="Multiply-accumulates of one token at full context.")
    kv_cache_bytes: Limit = Field(
        None,
        description="Bytes of one token's keys and values in the cache, at 16 bits a number; of a model with sliding "
        "windows the mean over the tokens of a cache at full context.",
    )
    prefill_ms: Milliseconds = Field(
        None,
        description="Milliseconds in which the model reads a batch of prompts of as many tokens as the context, on the "
        "run's device; predicted from times of its components, which the run measures first. Up to 1, a fraction of "
        "the dense model's.",
    )
    decode_ms: Milliseconds = Field(
        None, description="Milliseconds of one token for each sequence of the batch after such prompts, likewise."
    )
    batch: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Sequences of a batch, for prefill_ms and decode_ms; 1 if not given."
    )
    context: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Context in tokens at which macs, kv_cache_bytes and speeds are counted; that of the model if not "
        "given, but speeds need one.",
    )

    @model_validator(mode="after")
    def _context_matters(self) -> Self:
        if self.speeds and self.context is None:
            raise ValueError(f"{' and '.join(self.speeds)} depend on the context: write one, e.g. context: 512")
        if self.batch is not None and not self.speeds:
            raise ValueError(f"only {' and '.join(SPEEDS)} depend on batch: limit one of them, or leave it out")
        if self.context is not None and not self.speeds and not any(each in self.limits for each in CONTEXTUAL):
            raise ValueError(f"only {' and '.join(CONTEXTUAL)} depend on context: limit one of them, or leave it out")
        return self

    @property
    def limits(self) -> dict[Quantity, float]:
        """The limits that are given, as written."""
        given: dict[Quantity, float | None] = {each: getattr(self, each) for each in (*QUANTITIES, *SPEEDS)}
        return {quantity: limit for quantity, limit in given.items() if limit is not None}

    @property
    def speeds(self) -> tuple[Speed, ...]:
        """Speeds that are limited."""
        return tuple(speed for speed in SPEEDS if getattr(self, speed) is not None)

    @model_serializer
    def _as_given(self) -> dict[str, Any]:
        return {name: value for name, value in self if value is not None}
