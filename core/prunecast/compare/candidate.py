"""A measured architecture with its name in the result of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.problem.objective import Metrics


@dataclass(frozen=True)
class Candidate:
    """A measured architecture.

    Attributes:
        name: ``dense``, the name of a baseline, or ``best``.
        architecture: what it keeps.
        parameters: all parameters, embeddings included.
        parameters_without_embeddings: parameters of the layers and norms.
        metrics: measured metrics by name, ``DATASET.SPLIT.METRIC``.
        predicted: what the predictor said before it was measured; None for what was not searched.
    """

    name: str
    architecture: Architecture
    parameters: int
    parameters_without_embeddings: int
    metrics: Metrics
    predicted: Metrics | None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Candidate":
        """Inverse of :meth:`to_json`."""
        architecture = Architecture.parse(row["architecture"])
        return cls(**{**row, "architecture": architecture, "predicted": row.get("predicted")})

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        predicted = {} if self.predicted is None else {"predicted": self.predicted}
        return {
            "name": self.name,
            "architecture": str(self.architecture),
            "parameters": self.parameters,
            "parameters_without_embeddings": self.parameters_without_embeddings,
            **predicted,
            "metrics": self.metrics,
        }
