"""The listener against a local store of MLflow: one run from its first event to its last."""

import csv
from pathlib import Path
from typing import Any

import pytest

from prunecast.plugins import ArchitectureMeasured, PredictorFitted, RoundFinished, RunFinished, RunStarted

mlflow = pytest.importorskip("mlflow")

import prunecast_mlflow as listener  # noqa: E402

DENSE, BEST = "4x2+24*4", "4x1+24*2 0+12 4x2+0"
SPEC = {kind: {"use": kind} for kind in ("space", "pruner", "predictor", "searcher")}


def row(name: str, architecture: str, perplexity: float) -> dict[str, Any]:
    return {"name": name, "architecture": architecture, "parameters": 500, "metrics": {"text.test.ppl": perplexity}}


RESULT = {
    "dense": row("dense", DENSE, 20.0),
    "baselines": [row("uniform", DENSE, 32.0)],
    "best": row("best", BEST, 30.0),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of MLflow, which takes seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def store(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database, with an experiment of its own for each test, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv(listener.STORE, database)
    monkeypatch.setattr(listener, "EXPERIMENT", tmp_path.name)
    return database


def started() -> None:
    budget = {"parameters": 500.0}
    listener.prunecast_run_started(RunStarted(7, "tiny", SPEC, "model", "f" * 32, "float32", budget, resumed=False))


def test_a_run_is_logged_with_its_metrics_table_architecture_and_picture(store: str, tmp_path: Path) -> None:
    started()
    for value in (40.0, 30.0):
        measured = ArchitectureMeasured(7, "pairs", BEST, 500, "perplexity", {"text.test.ppl": value}, False, 1.0)
        listener.prunecast_architecture_measured(measured)
    listener.prunecast_predictor_fitted(PredictorFitted(7, 0, "gp", 2, 0.5))
    listener.prunecast_round_finished(RoundFinished(7, 1, 4, 4, BEST, {"text.test.ppl": 30.0}))
    listener.prunecast_run_finished(RunFinished(7, "finished", "", RESULT))

    client = mlflow.MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name(listener.EXPERIMENT).experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["prunecast.run"]) == ("tiny", "FINISHED", "7")
    assert (run.data.params["budget.parameters"], run.data.params["searcher"]) == ("500.0", "searcher")
    history = client.get_metric_history(run.info.run_id, "pairs/text.test.ppl")
    assert [(point.step, point.value) for point in history] == [(1, 40.0), (2, 30.0)]
    assert run.data.metrics["best/text.test.ppl"] == run.data.metrics["result/text.test.ppl"] == 30.0

    files = {Path(file.path).name for file in client.list_artifacts(run.info.run_id)}
    assert files == {"spec.json", "results.csv", "architecture.txt", "layers.png"}
    folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    assert (folder / "architecture.txt").read_text() == BEST + "\n"
    assert (folder / "layers.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "results.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(line["model"], line["text.test.ppl"]) for line in rows] == [
        ("dense", "20.0"),
        ("uniform", "32.0"),
        ("best", "30.0"),
    ]


def test_the_bars_of_the_picture_are_the_shares_that_layers_keep() -> None:
    figure = listener.picture(listener.Architecture.parse(BEST), listener.Architecture.parse(DENSE))
    heads, channels = ([bar.get_height() for bar in axes.patches] for axes in figure.axes)
    assert heads == [50.0, 50.0, 0.0, 100.0]
    assert channels == [100.0, 100.0, 50.0, 0.0]


def test_a_failed_run_is_closed_with_its_reason(store: str) -> None:
    started()
    listener.prunecast_run_finished(RunFinished(7, "failed", "no architecture fits", None))
    client = mlflow.MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name(listener.EXPERIMENT).experiment_id])
    assert (run.info.status, run.data.tags["prunecast.message"]) == ("FAILED", "no architecture fits")


def test_nothing_is_logged_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(listener.STORE, raising=False)
    started()
    assert list(tmp_path.iterdir()) == []
