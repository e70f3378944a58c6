"""The result of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import in_own_unit
from prunecast.architecture.shape import ModelShape, Quantity
from prunecast.architecture.speed import SPEEDS, SpeedTable
from prunecast.compare.candidate import Candidate
from prunecast.errors import ExportError
from prunecast.export.deliver import EXPORT, ExportReport
from prunecast.measure.recorded import NOTHING_PERMITTED, Permissions
from prunecast.models.pruned.lineage import lineage_to_json
from prunecast.owned.folder import OwnedFolder
from prunecast.plugins.host import PluginHost
from prunecast.predict.importance import ChoiceImportance
from prunecast.predict.quality import QualityCard
from prunecast.predict.warm_start import WarmStart
from prunecast.progress import Progress
from prunecast.recover.recover import Recovered
from prunecast.registry import ModelRecord, RunRecord
from prunecast.registry.records import exports_of
from prunecast.search.refine import Refinement
from prunecast.search.search import Round

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run.

    Attributes:
        run: id of the run in the registry.
        name: name of the spec.
        model: the dense model.
        dtype: number format of the measurements.
        budget: limits, absolute.
        dense, baselines, best: measured for comparison; ``best`` is the first of ``verified``.
        verified: the best measured architectures, best first by the objective of the search.
        predictor: name of the predictor.
        pairs: number of pairs it was fitted on in the end.
        card: its quality on held-out pairs; None if there are too few.
        warm_start: pairs of other models that it began with, and their benefit; None without.
        importances: importance of each choice of the space.
        refinement: changes of the space after the first fit; None if the spec does not refine.
        rounds: proposals of each round, predicted and measured.
        measured, cached: number of evaluations made, and found in the registry.
        exports: reports of the export, one a target; empty if nothing was to be written.
        seconds: wall time.
        recovered: the best after training; None if the spec does not recover.
        texts: names of the texts of the run by purpose.
        speeds: predicted milliseconds of the dense and the best model, by their names and that of the speed; empty if
            the budget limits no speed.
        workers: executor of the run and what its workers did, as :meth:`Dispatch.to_json` has it; empty without workers
            of its own.
        registry, host, permissions: file, plugins and named code of the run, for :meth:`export`.
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
    pairs: int
    card: QualityCard | None
    warm_start: WarmStart | None
    importances: list[ChoiceImportance]
    refinement: Refinement | None
    rounds: list[Round]
    measured: int
    cached: int
    exports: tuple[ExportReport, ...]
    seconds: float
    recovered: Recovered | None
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    speeds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    workers: Mapping[str, Any] = field(default_factory=dict, compare=False)
    registry: Path | None = field(default=None, compare=False)
    host: PluginHost | None = field(default=None, compare=False, repr=False)
    permissions: Permissions = field(default=NOTHING_PERMITTED, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle, without the plugins: they are modules, and found again where the result is loaded."""
        return vars(self) | {"host": None}

    @property
    def candidates(self) -> list[Candidate]:
        """Dense model, baselines, best architecture and, if it was trained, the recovered one."""
        return [self.dense, *self.baselines, self.best, *([self.recovered.after] if self.recovered else [])]

    @property
    def export_report(self) -> ExportReport | None:
        """Report of the export for the first target, or None."""
        return self.exports[0] if self.exports else None

    def table(self) -> "pandas.DataFrame":
        """One row for each of :attr:`candidates`: ``parameters``, ``kept`` (a fraction), and the measured metrics."""
        import pandas

        rows = [
            {"parameters": each.parameters, "kept": each.parameters / self.dense.parameters, **each.metrics}
            for each in self.candidates
        ]
        return pandas.DataFrame(rows, index=pandas.Index([each.name for each in self.candidates], name="model"))

    def export(
        self,
        folder: str | Path,
        architecture: Architecture | str | None = None,
        overwrite: bool = False,
        target: str = "huggingface",
        dtype: str | None = None,
    ) -> ExportReport:
        """Write the best model, or another architecture of the run, for a target.

        Args:
            folder: destination; ``{name}`` in it is the run's name. Files of others in it stay.
            architecture: the architecture, the best if not given.
            overwrite: True allows an export of another run, spec or architecture to be replaced, and an edited one.
            target: name of the exporter.
            dtype: number format; that of the measurements, or the exporter's default, if not given.

        Raises:
            ExportError: the folder cannot be written, or the architecture is not one of the model, or of the target.
        """
        from prunecast.registry import Registry
        from prunecast.run.export_again import export_again

        if self.registry is None:
            raise ExportError("this result does not come from a run: use prunecast.run")
        text = None if architecture is None else str(architecture)
        host = self.host or PluginHost.discover()
        with Registry.open(self.registry, readonly=True) as opened:
            record = opened.run(self.run)
            progress = Progress(quiet=True)
            reports = export_again(
                opened,
                record,
                text,
                folder,
                host,
                self.permissions,
                progress,
                overwrite=overwrite,
                dtype=dtype,
                target=target,
            )
        return reports[0]

    def load_model(self) -> "PreTrainedModel":
        """The best model, loaded from the run's export, or else exported for that to a folder that is removed again.

        The modelling code of the folder, which prunecast has written there, is executed.
        """
        found = next((each.folder for each in self.exports if self._is_export(each.folder)), None)
        if found is not None:
            return _load(found)
        with TemporaryDirectory() as scratch:
            self.export(folder := Path(scratch) / "model")
            return _load(folder)

    def _model_json(self) -> dict[str, Any]:
        model: dict[str, Any] = {
            "source": self.model.source,
            "fingerprint": self.model.fingerprint,
            "dtype": self.dtype,
        }
        if self.model.lineage:
            model |= {"made_from": lineage_to_json(self.model.lineage)}
        return model if self.model.revision is None else {**model, "revision": self.model.revision}

    def _is_export(self, folder: Path) -> bool:
        """True if a folder holds the best model, whole, in the form of Hugging Face."""
        subject = {"architecture": str(self.best.architecture), "model": self.model.fingerprint}
        return OwnedFolder(EXPORT, folder).is_whole(subject)

    def to_json(self) -> dict[str, Any]:
        """The object that ``prunecast run --json`` ends with."""
        card = self.card
        return {
            "run": self.run,
            "name": self.name,
            "model": self._model_json(),
            "budget": {quantity: in_own_unit(quantity, limit) for quantity, limit in self.budget.items()},
            **({"speeds": self.speeds} if self.speeds else {}),
            "dense": self.dense.to_json(),
            "baselines": [baseline.to_json() for baseline in self.baselines],
            "best": self.best.to_json(),
            "verified": [candidate.to_json() for candidate in self.verified],
            "predictor": {
                "use": self.predictor,
                "pairs": self.pairs,
                "r2": None if card is None else card.objective.r2,
                "kendall_tau": None if card is None else card.objective.kendall_tau,
            },
            "quality_card": None if card is None else card.to_json(),
            "warm_start": None if self.warm_start is None else self.warm_start.to_json(),
            "importances": [importance.to_json() for importance in self.importances],
            "refinement": None if self.refinement is None else self.refinement.to_json(),
            "rounds": [each.to_json() for each in self.rounds],
            "recovery": None if self.recovered is None else self.recovered.to_json(),
            "texts": {purpose: list(names) for purpose, names in self.texts.items()},
            "evaluations": {"measured": self.measured, "cached": self.cached},
            **({"workers": dict(self.workers)} if self.workers else {}),
            "seconds": round(self.seconds, 2),
            "export": self.exports[0].to_json() if self.exports else None,
            "exports": [each.to_json() for each in self.exports],
        }


def speeds_of(shape: ModelShape, table: SpeedTable, candidates: Sequence[Candidate]) -> dict[str, dict[str, float]]:
    """Predicted milliseconds of some candidates, by their names and that of the speed.

    Args:
        shape: sizes of the dense model.
        table: times of its components.
        candidates: the candidates.
    """
    timed, architectures = shape.with_speeds(table), [each.architecture for each in candidates]
    by_speed = {speed: timed.count(architectures, speed).tolist() for speed in SPEEDS}
    return {
        each.name: {speed: float(in_own_unit(speed, counts[row])) for speed, counts in by_speed.items()}
        for row, each in enumerate(candidates)
    }


def result_to_record(result: RunResult, earlier: RunRecord | None) -> dict[str, Any]:
    """The result as the registry keeps it.

    Args:
        result: the result of a run.
        earlier: the run of the same spec before. If it had a result and nothing has been measured since, the number
            of evaluations and the seconds stay those of then. Its export stays unless there is a new one, or another
            best.
    """
    record, before = result.to_json(), None if earlier is None else earlier.result
    if before is None:
        return record
    costs = {} if result.measured else {name: before[name] for name in ("evaluations", "seconds") if name in before}
    return record | costs | _exports_to_record(record, before)


def _exports_to_record(record: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Exports of a result, or those of the earlier one if they are of the same model and nothing was written since."""
    new, old = (_of_exports(each) for each in (record, before))
    if old.get("export") is None or before["best"]["architecture"] != record["best"]["architecture"]:
        return new
    same = [each["folder"] for each in new["exports"]] == [each["folder"] for each in exports_of(old)]
    unchanged = all(each["unchanged"] for each in new["exports"])
    return {"exports": exports_of(old), **old} if not new["exports"] or (same and unchanged) else new


def _of_exports(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("export", "exports") if name in record}


def _load(folder: Path) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    return model
