"""Base of pruners that need calibration text."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, WrapSerializer

from prunecast.plugins import (
    CalibrationOptions,
    CalibrationTexts,
    DataError,
    Family,
    LayerImportance,
    Pruner,
    PrunerOptions,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def _equally_long(texts: tuple[CalibrationOptions, ...]) -> tuple[CalibrationOptions, ...]:
    if len({text.tokens for text in texts}) > 1:
        raise ValueError("all calibration texts need the same number of tokens per sample")
    return texts


PrunerTexts = Annotated[CalibrationTexts, AfterValidator(_equally_long)]
"""Calibration texts of a pruner, all with the same ``tokens``."""


def _mapping_of_one(texts: tuple[CalibrationOptions, ...], written: SerializerFunctionWrapHandler) -> Any:
    # Content keys of the registry are made of this form: a single text was a mapping before there were lists.
    items = written(texts)
    return items[0] if len(items) == 1 else items


class CalibratedOptions(PrunerOptions):
    """Options of a pruner that needs calibration text."""

    calibration: Annotated[PrunerTexts, WrapSerializer(_mapping_of_one)] = Field(
        default=(CalibrationOptions(),), description="calibration text or texts for the importance of units"
    )


OptionsT = TypeVar("OptionsT", bound=CalibratedOptions)


class Calibrated(Pruner[OptionsT]):
    """A pruner that uses the calibration text of its options."""

    @property
    def calibration(self) -> tuple[CalibrationOptions, ...]:
        """The calibration texts of the options."""
        return self.options.calibration

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """Importance by ``rank_on_text``. Raises DataError without calibration text."""
        return self.rank_on_text(model, family, text_for(self, tokens))

    @abstractmethod
    def rank_on_text(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor") -> list[LayerImportance]:
        """REQUIRED. As :meth:`prunecast.plugins.Pruner.rank`, but tokens are never None: int64 (samples, tokens)."""


def text_for(pruner: Pruner[Any], tokens: "torch.Tensor | None") -> "torch.Tensor":
    """The tokens. Raises DataError if they are None."""
    if tokens is None:
        name = type(pruner).__name__.lower()
        raise DataError(f"the {name} pruner needs calibration text: give it `calibration: {{dataset: ...}}`")
    return tokens
