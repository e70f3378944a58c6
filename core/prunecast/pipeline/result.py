"""What a run comes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunecast.architecture import Architecture
from prunecast.export.huggingface import ExportReport
from prunecast.pipeline.fit import Quality
from prunecast.pipeline.measure import Metrics
from prunecast.registry import ModelRecord
from prunecast.shape import Quantity


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


@dataclass(frozen=True)
class RunResult:
    """Everything a finished run has to say.

    Attributes:
        run: id of the run in the registry.
        name: name of the spec.
        model: the dense model.
        dtype: number format of the measurements.
        budget: limits, absolute.
        dense, baselines, best: measured for comparison; ``best`` is the first of ``verified``.
        verified: the best measured architectures, best first by the objective of the search.
        predictor: name of the predictor.
        quality: how good it is on held-out pairs.
        measured, cached: evaluations made, and found in the registry.
        export: what was written, or None.
        seconds: wall time.
    """

    run: int
    name: str
    model: ModelRecord
    dtype: str
    budget: dict[Quantity, int]
    dense: Candidate
    baselines: list[Candidate]
    best: Candidate
    verified: list[Candidate]
    predictor: str
    quality: Quality
    measured: int
    cached: int
    export: ExportReport | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The object that ``prunecast run --json`` ends with."""
        quality = self.quality
        return {
            "run": self.run,
            "name": self.name,
            "model": {"source": self.model.source, "fingerprint": self.model.fingerprint, "dtype": self.dtype},
            "budget": self.budget,
            "dense": self.dense.to_json(),
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "best": self.best.to_json(),
            "verified": [candidate.to_json() for candidate in self.verified],
            "predictor": {
                "use": self.predictor,
                "pairs": quality.pairs,
                "r2": quality.r2,
                "kendall_tau": quality.kendall_tau,
            },
            "evaluations": {"measured": self.measured, "cached": self.cached},
            "seconds": round(self.seconds, 2),
            "export": None if self.export is None else self.export.to_json(),
        }
