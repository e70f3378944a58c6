"""Cost of measuring one architecture: SmolLM2-135M, 4,096 tokens, windows of 512, 75 % of the parameters kept."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import Bench, medians
from torch import Tensor, nn

from prunecast.plugins import Architecture, layers_of

pytestmark = [pytest.mark.usefixtures("inference"), pytest.mark.timeout(3600)]


def stock_evaluation(bench: Bench, model: Any) -> Callable[[], object]:
    """A straightforward evaluation: cross-entropy over all logits of the stock model, window by window."""
    windows = bench.evaluator._tokens.view(-1, 512)

    @torch.no_grad()
    def evaluate() -> float:
        losses = []
        for batch in windows.split(4):
            logits = model(batch, use_cache=False).logits.float()
            losses.append(nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten()))
        return float(torch.stack(losses).mean().exp())

    return evaluate


def bare_products(bench: Bench, rows: int) -> Callable[[], object]:
    """Only the matrix products of the kept weights with all tokens, ``rows`` at a time: a lower bound of the time.

    Includes the projection to the vocabulary; :func:`attention_products` has those of queries, keys and values. Weights
    have the memory layout of a linear layer, and results are written to preallocated memory.
    """
    shape, tokens = bench.setup.shape, 4096
    layers: list[tuple[int, int]] = []
    for kept in bench.architecture.layers:
        d, q, kv = shape.hidden_size, kept.query_heads * shape.head_dim, kept.kv_groups * shape.head_dim
        layers += [(d, q), (d, kv), (d, kv), (q, d), (d, kept.mlp_width), (d, kept.mlp_width), (kept.mlp_width, d)]
    vocabulary, chunk = (shape.hidden_size, shape.vocabulary), min(rows, 1024)
    products = [(1, rows, *sizes) for sizes in layers * (tokens // rows)]
    products += [(1, chunk, *vocabulary)] * (tokens // chunk)
    return multiplied(products, bench.setup.dtype)


def attention_products(bench: Bench, block: int = 128) -> Callable[[], object]:
    """Queries times keys, and weights times values: ``block`` queries and their visible keys, 4 windows at a time."""
    products, size, context, windows = [], bench.setup.shape.head_dim, 512, 4
    for kept in bench.architecture.layers:
        for seen in range(block, context + 1, block):
            heads, queries = windows * kept.kv_groups, kept.heads_per_group * block
            products += [(heads, queries, size, seen), (heads, queries, seen, size)]
    return multiplied(products * (4096 // (windows * context)), bench.setup.dtype)


def multiplied(products: list[tuple[int, int, int, int]], dtype: torch.dtype) -> Callable[[], object]:
    """Batched matrix products of sizes (batch, height, inner, outer), one after the other."""
    made: dict[tuple[int, ...], Tensor] = {}

    def some(*sizes: int) -> Tensor:
        if sizes not in made:
            made[sizes] = torch.randn(sizes).to(dtype)
        return made[sizes]

    def multiply() -> None:
        for batch, height, inner, outer in products:
            if batch == 1:
                torch.mm(some(height, inner), some(outer, inner).T, out=some(height, outer))
            else:
                left, right = some(batch, height, inner), some(batch, outer, inner).transpose(1, 2)
                torch.bmm(left, right, out=some(batch, height, outer))

    return multiply


def test_candidate_against_stock_and_against_its_own_arithmetic(bench: Bench, report: Callable[[str], None]) -> None:
    stock = bench.setup.source.load(torch.float32, "cpu")
    bench.elastic.apply(bench.architecture)

    def candidate() -> object:
        return bench.evaluator.evaluate(bench.elastic.model)

    ways = [bare_products(bench, rows) for rows in (512, 1024, 2048, 4096)]
    attention = attention_products(bench)
    ours, theirs, attending, *products = medians(candidate, stock_evaluation(bench, stock), attention, *ways)
    least, dtype = min(products), str(bench.setup.dtype).removeprefix("torch.")
    report(f"candidate / stock dense float32 evaluation   {ours / theirs:.3f}   (in {dtype}; target in bfloat16 0.45)")
    report(f"candidate / bare products of what it keeps   {ours / (least + attending):.3f}   (target 1.25)")
    report(f"the same, without attention's own products   {ours / least:.3f}")
    report(f"share of the machine's product throughput    {(least + attending) / ours:.3f}")


def test_switching(bench: Bench, benchmark: Any, report: Callable[[str], None]) -> None:
    shape = bench.setup.shape
    two = [bench.architecture, Architecture([(2, 2, 640)] * len(shape.dense.layers))]

    def switch() -> None:
        for architecture in two:
            bench.elastic.apply(architecture)

    benchmark.pedantic(switch, rounds=200, warmup_rounds=5)
    milliseconds = benchmark.stats.stats.median / len(two) * 1000
    report(f"switching all {len(shape.dense.layers)} layers, milliseconds         {milliseconds:.3f}   (target 1)")


def test_against_the_usual_way(bench: Bench, report: Callable[[str], None]) -> None:
    """Load, rank by a backward pass, slice and evaluate for each candidate, in this process and in a new one.

    Programs that prune in this way start one process per candidate.
    """
    kept = bench.architecture

    def switch() -> None:
        bench.elastic.apply(bench.setup.shape.dense)
        bench.elastic.apply(kept)

    def in_a_process() -> None:
        code = "from bench import make_bench; from test_engine import usual_candidate; usual_candidate(make_bench())"
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, env=os.environ)

    usual_preparation, switching = medians(lambda: usually_sliced(bench), switch, rounds=3)
    usual, alone, ours = medians(
        lambda: usual_candidate(bench),
        in_a_process,
        lambda: (switch(), bench.evaluator.evaluate(bench.elastic.model)),
        rounds=3,
    )
    report(f"preparing a candidate, usual way / ours      {usual_preparation / switching:,.0f}   (target 1,000)")
    report(f"the whole candidate, usual way / ours        {usual / ours:.2f}")
    report(f"the same, one process per candidate / ours   {alone / ours:.2f}   (target 6)")


def usual_candidate(bench: Bench) -> None:
    """One candidate in the usual way, from loading the model to the perplexity."""
    stock_evaluation(bench, usually_sliced(bench))()


def usually_sliced(bench: Bench) -> Any:
    """The stock model in float32, its MLPs sliced to the benchmark's architecture by first-order Taylor importance."""
    tokens = bench.evaluator._tokens[:640].view(5, 128)
    with torch.inference_mode(mode=False), torch.enable_grad():
        model = bench.setup.source.load(torch.float32, "cpu")
        model.requires_grad_(True)
        rows = tokens.clone()  # a copy, because autograd rejects tensors of inference mode
        model(rows, labels=rows, use_cache=False).loss.backward()
        for parts, layer in zip(layers_of(model, bench.setup.family), bench.architecture.layers, strict=True):
            cut(parts, layer.mlp_width)
    return model


def cut(parts: Any, width: int) -> None:
    """Keep the ``width`` channels with the largest sums of absolute weights times gradients."""
    mlp = parts.layer.mlp
    gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
    scores = sum((m.weight * m.weight.grad).abs().sum(d) for m, d in ((gate, 1), (up, 1), (down, 0)))
    order = torch.as_tensor(scores).argsort(descending=True)[:width]
    for module in (gate, up):
        module.weight = nn.Parameter(module.weight.detach()[order])
    down.weight = nn.Parameter(down.weight.detach()[:, order])


def test_peak_memory(bench: Bench, report: Callable[[str], None], tmp_path: Path) -> None:
    """Peak resident memory of a new process over 20 architectures, minus that before the weights are loaded."""
    spec = tmp_path / "peak.yaml"
    spec.write_text(SPEC_FOR_PEAK)
    command = [sys.executable, str(PEAK), str(spec)]
    for _ in ("the ranking is made and kept", "it is found"):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, weights = map(int, done.stdout.split())
    chunk = 1024 * bench.setup.shape.vocabulary * 4
    ratio = peak / (1.25 * weights + chunk)
    report(f"peak memory / (1.25 x weights + logits chunk) {ratio:.3f}   (target 1)")
    assert ratio <= 1


PEAK = Path(__file__).parents[1] / "tests" / "support" / "peak_memory.py"

SPEC_FOR_PEAK = """
model: {source: smollm2-135m, dtype: float32}
space: {use: layerwise, layers: "3:28"}
pruner: {use: magnitude}
evaluators: [{use: perplexity, dataset: python-docs, tokens: 1024, context: 256, batch: 1}]
predictor: {use: gbdt}
searcher: {use: random}
"""
