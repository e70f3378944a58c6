"""The section ``budget``: its numbers, its mistakes with their places, and keys that do not change."""

import json
from pathlib import Path

import pytest
from workplace import TINY

from prunecast.architecture.speed import LayerTimes, SpeedTable, Times
from prunecast.errors import SpecError
from prunecast.plugins.host import PluginHost
from prunecast.problem.problem import Problem
from prunecast.spec.load import load_spec, parse_spec
from prunecast.spec.model import Spec

HOST = PluginHost.discover()

SPEC = """\
model: {source: somewhere}
space: {use: layerwise, mlp: [0, 0.5]}
pruner: random
predictor: gp
searcher: random
evaluators: [{use: perplexity, dataset: ptb}]
budget:
  BUDGET
"""


def spec_of(budget: str, *overrides: str) -> Spec:
    return parse_spec(SPEC.replace("BUDGET", budget), HOST, overrides, Path("s.yaml"))


def problems(budget: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as refused:
        spec_of(budget, *overrides)
    return refused.value.problems


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("parameters: 70", "parameters: 70 would be 70 parameters; write 0.7 for 70 %, or a number above 100"),
        (
            "parameters_without_embeddings: 99.5",
            "parameters_without_embeddings: 99.5 would be 99.5 parameters; write 0.995 for 99.5 %, or a number above "
            "100",
        ),
        ("macs: 100", "macs: 100 would be 100 multiply-accumulates; write 1 for 100 %, or a number above 100"),
        ("kv_cache_bytes: 2", "kv_cache_bytes: 2 would be 2 bytes; write 0.02 for 2 %, or a number above 100"),
    ],
)
def test_a_percentage_is_asked_about_at_its_place(budget: str, message: str) -> None:
    column = 3 + budget.index(" ") + 1
    assert problems(budget) == [f"s.yaml:8:{column}: budget.{message}"]
    quantity, value = budget.split(": ")
    assert problems("macs: 0.5", f"budget={{{quantity}: {value}}}") == [
        f"--set budget={{{quantity}: {value}}}:1:{len(quantity) + 4}: budget.{message}"
    ]


@pytest.mark.parametrize("limit", [0.001, 1, 1.0, 100.5, 101, 107_612_006])
def test_shares_and_counts_are_taken_as_they_are(limit: float) -> None:
    assert spec_of(f"parameters: {limit}").budget.limits == {"parameters": limit}


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ("parameters: 0", "s.yaml:8:15: budget.parameters: must be greater than 0"),
        ("parameters: all", "s.yaml:8:15: budget.parameters: must be a number, got 'all'"),
        ("{macs: 0.5, context: 0}", "s.yaml:8:24: budget.context: must be at least 1, got 0"),
        ("{macs: 0.5, context: 1.5}", "s.yaml:8:24: budget.context: must be a whole number, got 1.5"),
        (
            "{parameters: 0.5, context: 64}",
            "s.yaml:8:3: budget: only macs and kv_cache_bytes depend on context: limit one of them, or leave it out",
        ),
        (
            "{prefill_ms: 0.5, decode_ms: 20}",
            "s.yaml:8:3: budget: prefill_ms and decode_ms depend on the context: write one, e.g. context: 512",
        ),
        ("{decode_ms: 0, context: 8}", "s.yaml:8:15: budget.decode_ms: must be greater than 0"),
        (
            "{macs: 0.5, batch: 2}",
            "s.yaml:8:3: budget: only prefill_ms and decode_ms depend on batch: limit one of them, or leave it out",
        ),
        (
            "memory: 0.5",
            "s.yaml:8:3: budget.memory: unknown option 'memory'; known: parameters, parameters_without_embeddings, "
            "macs, kv_cache_bytes, prefill_ms, decode_ms, batch, context",
        ),
        ("0.7", "s.yaml:8:3: budget: must be a mapping, got 0.7"),
    ],
)
def test_mistakes_are_one_line_with_their_place(budget: str, problem: str) -> None:
    (found,) = problems(budget)
    assert found.startswith(problem)


def test_quantities_are_counted_at_the_context_of_the_budget() -> None:
    budget = Problem.of(spec_of("{macs: 0.8, kv_cache_bytes: 0.75, context: 32}"), HOST, TINY).budget
    full = Problem.of(spec_of("{macs: 0.8, kv_cache_bytes: 0.75}"), HOST, TINY).budget
    scores = 2 * 8 * 4 * 2 * 4
    assert full.limits["macs"] - budget.limits["macs"] == pytest.approx(0.8 * (128 - 32) * scores, abs=1)
    assert full.limits["kv_cache_bytes"] == budget.limits["kv_cache_bytes"]
    assert budget.shape.context == 32


def test_a_speed_is_a_limit_once_its_table_is_there() -> None:
    spec = spec_of("{macs: 0.8, prefill_ms: 0.9, decode_ms: 20, batch: 2, context: 32}")
    assert spec.budget.limits == {"macs": 0.8, "prefill_ms": 0.9, "decode_ms": 20.0}
    assert set(Problem.of(spec, HOST, TINY).budget.limits) == {"macs"}
    mlp = tuple((width, Times(width, 0)) for width in (0, 24))
    layers = (LayerTimes(((4, 2, Times(100, 50)),), mlp),)
    table = SpeedTable(2, 32, Times(1_000, 500), TINY.kinds, layers)
    limits = Problem.of(spec, HOST, TINY.with_speeds(table)).budget.limits
    dense = 1_000 + len(TINY.layers) * (100 + 24)
    assert (limits["prefill_ms"], limits["decode_ms"]) == (int(0.9 * dense), 20_000_000)


def test_a_context_longer_than_the_models_is_an_error_at_its_place() -> None:
    message = "budget.context: 129 is longer than the model's context: set it to 128 or less"
    with pytest.raises(SpecError) as refused:
        Problem.of(spec_of("{macs: 0.9, context: 129}"), HOST, TINY)
    assert refused.value.problems == [f"s.yaml:8:24: {message}"]
    with pytest.raises(SpecError) as refused:
        Problem.of(spec_of("macs: 0.9", "budget.context=129"), HOST, TINY)
    assert refused.value.problems == [f"--set budget.context=129:1:1: {message}"]
    Problem.of(spec_of("{macs: 0.9, context: 128}"), HOST, TINY)


@pytest.mark.parametrize(
    ("overrides", "key", "budget"),
    [
        ((), "6638ba812d224dbdc3ccc0fed28527e2", {"parameters": 0.7}),
        (("budget={}",), "d205de588f01651c604b89a904e138de", {}),
        (
            ("budget={kv_cache_bytes: 0.5, parameters: 1, macs: 123456}",),
            "299ab1b986a20da398e49ce3678a6c44",
            {"parameters": 1.0, "macs": 123456.0, "kv_cache_bytes": 0.5},
        ),
    ],
)
def test_keys_are_those_of_versions_without_a_context(
    overrides: tuple[str, ...], key: str, budget: dict[str, float]
) -> None:
    spec = load_spec("smollm2", HOST, overrides)
    assert (spec.key, json.loads(spec.to_json())["budget"]) == (key, budget)
    assert (
        load_spec("smollm2", HOST, ("budget={macs: 0.5, context: 64}",)).key
        != load_spec("smollm2", HOST, ("budget={macs: 0.5}",)).key
    )
