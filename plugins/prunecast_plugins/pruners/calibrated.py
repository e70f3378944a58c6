"""What pruners have in common that look at text."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from prunecast.plugins import CalibrationOptions, DataError, Family, LayerImportance, Pruner, PrunerOptions

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class CalibratedOptions(PrunerOptions):
    """Options of a pruner that looks at text."""

    calibration: CalibrationOptions = Field(
        default=CalibrationOptions(), description="text that the importance is measured on"
    )


OptionsT = TypeVar("OptionsT", bound=CalibratedOptions)


class Calibrated(Pruner[OptionsT]):
    """A pruner that looks at the text given in its options."""

    @property
    def calibration(self) -> tuple[CalibrationOptions, ...]:
        """The text given in the options."""
        return (self.options.calibration,)

    def rank(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor | None") -> list[LayerImportance]:
        """What ``rank_on_text`` finds. Raises DataError without text."""
        return self.rank_on_text(model, family, text_for(self, tokens))

    @abstractmethod
    def rank_on_text(self, model: "PreTrainedModel", family: Family, tokens: "torch.Tensor") -> list[LayerImportance]:
        """REQUIRED. As :meth:`prunecast.plugins.interfaces.Pruner.rank`, with tokens for certain: int64 (samples, tokens)."""


def text_for(pruner: Pruner[Any], tokens: "torch.Tensor | None") -> "torch.Tensor":
    """The tokens, for certain. Raises DataError if there are none."""
    if tokens is None:
        name = type(pruner).__name__.lower()
        raise DataError(f"the {name} pruner needs calibration text: give it `calibration: {{dataset: ...}}`")
    return tokens
