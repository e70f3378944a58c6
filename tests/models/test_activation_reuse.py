"""Reuse of activations: identical outputs, fewer layers computed, bounded memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from prunecast.architecture.architecture import Architecture, LayerImportance
from prunecast.models.activation_reuse import ActivationReuse
from prunecast.models.elastic import ElasticModel
from prunecast.testing.models import family_of, shape_of

BATCHES = torch.randint(3, 97, (3, 2, 16), generator=torch.Generator().manual_seed(0))
DENSE = (4, 2, 24)


def elastic_of(model: Any) -> ElasticModel:
    shape, rng = shape_of(model.config), np.random.default_rng(0)
    importance = [LayerImportance(rng.random(4), rng.random((4, 2)), rng.random(24)) for _ in shape.dense.layers]
    return ElasticModel(model, family_of(model.config), shape, importance)


def hidden(elastic: ElasticModel) -> torch.Tensor:
    with torch.inference_mode():
        return torch.stack(
            [elastic.model.base_model(batch, use_cache=False).last_hidden_state.clone() for batch in BATCHES]
        )


def random_architectures(count: int) -> list[Architecture]:
    rng = np.random.default_rng(1)
    sizes = [DENSE, (2, 1, 8), (0, 0, 5), (4, 1, 0)]
    return [Architecture([sizes[i] for i in rng.integers(len(sizes), size=3)]) for _ in range(count)]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("memory", [2**20, 5 * 2 * 16 * 64 * 4, 0])
def test_numbers_are_the_same_to_the_last_bit(family: str, memory: int, tiny_model: Callable[..., Any]) -> None:
    elastic = elastic_of(tiny_model(family))
    reuse = ActivationReuse(elastic, memory)
    for architecture in random_architectures(25):
        elastic.apply(architecture)
        expected = hidden(elastic)
        with reuse.active():
            assert torch.equal(hidden(elastic), expected)
            assert torch.equal(hidden(elastic), expected)
        assert torch.equal(hidden(elastic), expected)


def test_only_layers_from_the_first_changed_one_are_computed(tiny_model: Callable[..., Any]) -> None:
    elastic = elastic_of(tiny_model("llama"))
    reuse = ActivationReuse(elastic)
    computed = []
    for layers in (
        [DENSE] * 3,
        [DENSE, DENSE, (1, 1, 1)],
        [DENSE, (1, 1, 1), (1, 1, 1)],
        [(1, 1, 1)] * 3,
        [(1, 1, 1)] * 3,
    ):
        elastic.apply(Architecture(layers))
        before = reuse.computed
        with reuse.active():
            hidden(elastic)
        computed.append((reuse.computed - before) // len(BATCHES))
    assert computed == [3, 1, 2, 3, 0]


def test_memory_stays_within_its_limit(tiny_model: Callable[..., Any]) -> None:
    elastic = elastic_of(tiny_model("llama"))
    one = 2 * 16 * 64 * 4
    reuse = ActivationReuse(elastic, memory=4 * one)
    for architecture in random_architectures(5):
        elastic.apply(architecture)
        with reuse.active():
            hidden(elastic)
    assert len(reuse._stored) == 4
    assert reuse._bytes == sum(kept.output.nbytes for kept in reuse._stored.values()) == 4 * one


def test_forgotten_activations_are_recomputed_and_cached_again(tiny_model: Callable[..., Any]) -> None:
    elastic = elastic_of(tiny_model("llama"))
    reuse = ActivationReuse(elastic, memory=len(BATCHES) * 3 * 2 * 16 * 64 * 4)
    with reuse.active():
        hidden(elastic)
        reuse.forget()
        assert (reuse._stored, reuse._bytes) == ({}, 0)
        hidden(elastic)
        hidden(elastic)
    assert (reuse.computed, reuse.reused) == (2 * 3 * len(BATCHES), 3 * len(BATCHES))


def test_shrink_halves_the_cache_until_it_is_empty(tiny_model: Callable[..., Any]) -> None:
    elastic = elastic_of(tiny_model("llama"))
    reuse, kept = ActivationReuse(elastic), []
    with reuse.active():
        while True:
            hidden(elastic)
            kept.append(len(reuse._stored))
            if not reuse.shrink():
                break
    assert kept[:2] == [kept[0], kept[0] // 2]
    assert kept[-1] == 0


def test_calls_with_a_mask_or_a_cache_are_not_reused(tiny_model: Callable[..., Any]) -> None:
    elastic = elastic_of(tiny_model("llama"))
    reuse = ActivationReuse(elastic)
    mask = torch.ones(2, 16, dtype=torch.int64)
    mask[0, :7] = 0
    with torch.inference_mode(), reuse.active():
        plain = elastic.model.base_model(BATCHES[0], use_cache=False).last_hidden_state
        masked = elastic.model.base_model(BATCHES[0], attention_mask=mask, use_cache=False).last_hidden_state
        cached = elastic.model.base_model(BATCHES[0], use_cache=True)
    assert not torch.equal(plain, masked)
    assert cached.past_key_values.get_seq_length() == 16
    assert reuse.reused == 0


def test_failure_in_a_forward_pass_leaves_no_wrong_activations(tiny_model: Callable[..., Any]) -> None:
    elastic = elastic_of(tiny_model("llama"))
    reuse = ActivationReuse(elastic)
    first, second = Architecture([DENSE, (2, 1, 8), DENSE]), Architecture([DENSE, DENSE, (2, 1, 8)])
    elastic.apply(first)
    with reuse.active():
        hidden(elastic)
    elastic.apply(second)

    def fail(*_: Any) -> None:
        raise RuntimeError("in the middle")

    hook = elastic.layers[2].module.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"), reuse.active():
        hidden(elastic)
    hook.remove()
    elastic.apply(first)
    with reuse.active():
        found = hidden(elastic)
    assert torch.equal(found, hidden(elastic))
