"""A listener for prunecast that logs runs for TensorBoard.

Set ``PRUNECAST_TENSORBOARD`` to a folder, and every run writes its curves to ``FOLDER/NAME-RUN``.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from prunecast.plugins import ArchitectureMeasured, PredictorFitted, RoundFinished, RunFinished, RunStarted, hookimpl

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

FOLDER = "PRUNECAST_TENSORBOARD"
"""Environment variable with the log folder of TensorBoard."""

_writers: "dict[int, SummaryWriter]" = {}
_steps: dict[int, int] = {}


@hookimpl
def prunecast_run_started(event: RunStarted) -> None:
    """Open a folder for the run and log its spec."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(Path(folder) / f"{event.spec_name}-{event.run}"))
    writer.add_text("spec", f"```json\n{json.dumps(event.spec, indent=2)}\n```")
    _writers[event.run], _steps[event.run] = writer, 0


@hookimpl
def prunecast_architecture_measured(event: ArchitectureMeasured) -> None:
    """Log one point per metric, in order of measurement."""
    if writer := _writers.get(event.run):
        _steps[event.run] += 1
        for name, value in {**event.metrics, "parameters": event.parameters}.items():
            writer.add_scalar(f"{event.stage.split()[0]}/{name}", value, _steps[event.run])


@hookimpl
def prunecast_predictor_fitted(event: PredictorFitted) -> None:
    """Log the number of pairs and the seconds of the fit."""
    if writer := _writers.get(event.run):
        writer.add_scalar("predictor/pairs", event.pairs, event.round)
        writer.add_scalar("predictor/seconds", event.seconds, event.round)


@hookimpl
def prunecast_round_finished(event: RoundFinished) -> None:
    """Log the metrics of the best architecture so far."""
    if writer := _writers.get(event.run):
        for name, value in event.best_metrics.items():
            writer.add_scalar(f"best/{name}", value, event.round)


@hookimpl
def prunecast_run_finished(event: RunFinished) -> None:
    """Log the status and close the folder."""
    if writer := _writers.pop(event.run, None):
        writer.add_text("status", f"{event.status} {event.message}".strip())
        writer.close()
