"""Latency: exact bytes and plausible speeds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from evaluator_samples import FAMILIES, GONE, elastic_of, model_of

from prunecast.architecture.architecture import Architecture
from prunecast.errors import DataError, EvaluationError
from prunecast.models.families.head import head_of
from prunecast.testing.models import shape_of
from prunecast_plugins.evaluators.latency import Latency, LatencyOptions, weight_bytes


def prepared(model: Any, **options: Any) -> Latency:
    evaluator = Latency(LatencyOptions(**{"device": "cpu", "prompt": 12, "generate": 3, "repeats": 2, **options}))
    evaluator.prepare(None, shape_of(model.config), None)  # type: ignore[arg-type]  # it reads no text
    return evaluator


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
@torch.inference_mode()
def test_speeds_are_positive_with_errors_and_bytes_are_exact(
    gone: tuple[int, ...], tiny_model: Callable[..., Any]
) -> None:
    model = model_of(tiny_model, "llama")
    elastic = elastic_of(model, gone)
    prefill, decode, weights, cache = prepared(model, batch=2).evaluate(elastic.model)
    names = [measured.metric.name for measured in (prefill, decode, weights, cache)]
    kinds = ["prefill_tokens_per_second", "decode_tokens_per_second", "weight_bytes", "kv_cache_bytes_per_token"]
    assert names == [f"latency.cpu.{kind}" for kind in kinds]
    for speed in (prefill, decode):
        assert speed.value > 0
        assert speed.standard_error is not None
    shape, float32 = shape_of(model.config), 4
    assert (weights.value, weights.standard_error) == (float32 * shape.count([elastic.architecture])[0], None)
    assert cache.value == shape.count([elastic.architecture], "kv_cache_bytes")[0] * float32 / 2


@pytest.mark.parametrize("case", FAMILIES)
def test_weight_bytes_are_those_of_the_kept_parameters(case: str, tiny_model: Callable[..., Any]) -> None:
    model = model_of(tiny_model, case)
    elastic, shape = elastic_of(model), shape_of(model.config)
    groups, heads, width = shape.dense.layers[0]
    assert weight_bytes(model) == 4 * model.num_parameters()
    for layers in ([(groups, heads, width)] * 3, [(2, heads, 7), (0, 0, width), (groups - 1, 1, 0)], [(0, 0, 0)] * 3):
        elastic.apply(Architecture(layers))
        assert weight_bytes(elastic.model) == 4 * shape.count([elastic.architecture])[0]


@torch.inference_mode()
def test_every_repeat_reads_the_prompt_and_generates_token_by_token(tiny_model: Callable[..., Any]) -> None:
    model, fed = model_of(tiny_model, "llama"), []
    head_of(model)  # found once for every model, as a run does before it measures
    model.model.register_forward_pre_hook(lambda module, given: fed.append(tuple(given[0].shape)))
    evaluator = prepared(model, batch=2, prompt=5, generate=3, repeats=2)
    evaluator.evaluate(model)
    assert fed == [(2, 5), (2, 1), (2, 1), (2, 1)] * 3
    assert sum(rows * columns for rows, columns in fed) == evaluator.tokens


def test_a_prompt_and_generation_longer_than_the_context_are_an_error(tiny_model: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"prompt 1000 \+ generate 25 .* 1024 together or less"):
        prepared(model_of(tiny_model, "llama"), prompt=1000, generate=25)


@torch.inference_mode()
def test_a_model_on_another_device_is_an_error(tiny_model: Callable[..., Any]) -> None:
    model = model_of(tiny_model, "llama")
    evaluator = prepared(model, device="mps")
    assert evaluator.metrics[0].name.startswith("latency.mps.")
    with pytest.raises(EvaluationError, match="model is on cpu, metrics are for mps; write device: cpu"):
        evaluator.evaluate(model)


def test_the_number_of_threads_is_in_the_hash(tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = prepared(model_of(tiny_model, "llama"))
    before = evaluator.data_hash
    assert evaluator.data_hash == before
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1234)
    assert evaluator.data_hash != before
