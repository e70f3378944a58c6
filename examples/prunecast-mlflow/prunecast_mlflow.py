"""A listener for prunecast that logs runs to MLflow.

Set ``PRUNECAST_MLFLOW`` to a tracking URI, and every run of prunecast is a run of the experiment ``prunecast`` there.
"""

import csv
import io
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunecast import Architecture
from prunecast.plugins import ArchitectureMeasured, PredictorFitted, RoundFinished, RunFinished, RunStarted, hookimpl

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

STORE = "PRUNECAST_MLFLOW"
"""Environment variable with the tracking URI."""

EXPERIMENT = "prunecast"

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


@dataclass
class _Log:
    """One run of MLflow.

    Attributes:
        client: client of the store.
        id: id of the run there.
        measured: number of measurements so far.
    """

    client: "MlflowClient"
    id: str
    measured: int = 0

    def metrics(self, prefix: str, values: dict[str, float], step: int) -> None:
        """Log values; MLflow allows only some characters in a name."""
        for name, value in values.items():
            self.client.log_metric(self.id, re.sub(r"[^\w./ -]", "_", f"{prefix}/{name}"), value, step=step)


_logs: dict[int, _Log] = {}


@hookimpl
def prunecast_run_started(event: RunStarted) -> None:
    """Open a run of MLflow and log what is asked for."""
    store = os.environ.get(STORE)
    if not store:
        return
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
    tags = {"prunecast.run": str(event.run), "prunecast.fingerprint": event.fingerprint}
    log = _Log(client, client.create_run(number, run_name=event.spec_name, tags=tags).info.run_id)
    plugins = {kind: event.spec[kind]["use"] for kind in ("space", "pruner", "predictor", "searcher")}
    limits = {f"budget.{quantity}": limit for quantity, limit in event.budget.items()}
    for name, value in {"model": event.model, "dtype": event.dtype, **plugins, **limits}.items():
        client.log_param(log.id, name, value)
    client.log_dict(log.id, event.spec, "spec.json")
    _logs[event.run] = log


@hookimpl
def prunecast_architecture_measured(event: ArchitectureMeasured) -> None:
    """Log one point per metric, in order of measurement."""
    if log := _logs.get(event.run):
        log.measured += 1
        log.metrics(event.stage.split()[0], {**event.metrics, "parameters": event.parameters}, log.measured)


@hookimpl
def prunecast_predictor_fitted(event: PredictorFitted) -> None:
    """Log the number of pairs and the seconds of the fit."""
    if log := _logs.get(event.run):
        log.metrics("predictor", {"pairs": event.pairs, "seconds": event.seconds}, event.round)


@hookimpl
def prunecast_round_finished(event: RoundFinished) -> None:
    """Log the metrics of the best architecture so far."""
    if log := _logs.get(event.run):
        log.metrics("best", event.best_metrics, event.round)


@hookimpl
def prunecast_run_finished(event: RunFinished) -> None:
    """Log the table, the architecture and the picture of a finished run, and close it."""
    if log := _logs.pop(event.run, None):
        if event.result is not None:
            _log_result(log, event.result)
        log.client.set_tag(log.id, "prunecast.message", event.message)
        log.client.set_terminated(log.id, _STATUS[event.status])


def _log_result(log: _Log, result: dict[str, Any]) -> None:
    best = result["best"]
    log.metrics("result", {**best["metrics"], "parameters": best["parameters"]}, log.measured)
    log.client.log_text(log.id, table(result), "results.csv")
    log.client.log_text(log.id, best["architecture"] + "\n", "architecture.txt")
    figure = picture(Architecture.parse(best["architecture"]), Architecture.parse(result["dense"]["architecture"]))
    log.client.log_figure(log.id, figure, "layers.png")


def table(result: dict[str, Any]) -> str:
    """Dense model, baselines and best architecture with their metrics, as CSV; ``result`` as JSON."""
    metrics = list(result["dense"]["metrics"])
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["model", "parameters", *metrics, "architecture"])
    for row in (result["dense"], *result["baselines"], result["best"]):
        values = [row["metrics"].get(metric) for metric in metrics]
        writer.writerow([row["name"], row["parameters"], *values, row["architecture"]])
    return lines.getvalue()


def picture(kept: Architecture, dense: Architecture) -> "Figure":
    """Bars of the share of query heads and of MLP channels that each layer keeps, in percent."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    panels = zip(figure.subplots(2, 1, sharex=True), ("query_heads", "mlp_width"), strict=True)
    for axes, part in panels:
        sizes = zip(kept.layers, dense.layers, strict=True)
        axes.bar(range(len(dense.layers)), [100 * getattr(k, part) / max(getattr(d, part), 1) for k, d in sizes])
        axes.set(title=part.replace("_", " "), ylabel="kept, %", ylim=(0, 105))
    axes.set_xlabel("layer")
    return figure
