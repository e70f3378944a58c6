"""Cost of the one-time steps ranking, moments and solves of compensation, in units of one dense evaluation."""

from collections.abc import Callable
from pathlib import Path

from bench import Bench, medians

from prunecast.models.compensation import FromMoments
from prunecast.models.moments import gather_moments
from prunecast.plugins import CalibrationOptions
from prunecast_plugins.pruners.taylor import Taylor, TaylorOptions


def test_ranking_and_compensation(bench: Bench, tmp_path: Path, report: Callable[[str], None]) -> None:
    import torch

    setup, elastic = bench.setup, bench.elastic
    tokens = bench.evaluator._tokens[:1280].view(10, 128)
    pruner = Taylor(TaylorOptions(calibration=CalibrationOptions(dataset="python-docs")))

    def rank() -> None:
        model = setup.source.load(torch.float32, "cpu")
        pruner.rank(model, setup.family, tokens)

    stock, windows = setup.source.load(setup.dtype, "cpu"), bench.evaluator._tokens.view(-1, 512)

    def gather() -> None:
        gather_moments(stock, setup.family, windows.split(4), tmp_path / "moments", lambda count: None)

    def solve() -> None:
        elastic.apply(setup.shape.dense)
        elastic.compensation = FromMoments(elastic, moments, "least-squares", 0.01)
        elastic.apply(bench.architecture)

    def again() -> None:
        elastic.apply(setup.shape.dense)
        elastic.apply(bench.architecture)

    def dense() -> None:
        elastic.apply(setup.shape.dense)
        with torch.inference_mode():
            bench.evaluator.evaluate(elastic.model)

    ranking, gathering, evaluation = medians(rank, gather, dense, rounds=3)
    moments = gather_moments(stock, setup.family, [windows[:4]], tmp_path / "few", lambda count: None)
    solving, switching = medians(solve, again, rounds=3)
    elastic.apply(setup.shape.dense)
    elastic.compensation = None
    report(f"ranking on 10 x 128 tokens / dense evaluation   {ranking / evaluation:.2f}")
    report(f"moments of 4,096 tokens / dense evaluation      {gathering / evaluation:.2f}")
    report(f"first solve of 25 widths / dense evaluation     {solving / evaluation:.2f}")
    report(f"the same architecture again, milliseconds       {switching * 1000:.2f}")
