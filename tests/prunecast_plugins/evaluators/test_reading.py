"""Reading in pieces, compared with one forward pass without a cache."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from evaluator_samples import FAMILIES, GONE, elastic_of, model_of

from prunecast_plugins.evaluators.padding import padded
from prunecast_plugins.evaluators.reading import Reading

IDS = torch.tensor([[7, 31, 50, 96, 3, 64, 12, 12, 80, 45, 9, 27, 66]])

each_family = pytest.mark.parametrize("case", FAMILIES)
each_gone = pytest.mark.parametrize("gone", GONE.values(), ids=GONE)


def at_once(model: Any, ids: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = model.base_model(ids, use_cache=False).last_hidden_state
    return hidden


@each_family
@each_gone
@torch.inference_mode()
def test_reading_in_pieces_equals_one_forward_pass(
    case: str, gone: tuple[int, ...], tiny_model: Callable[..., Any]
) -> None:
    model = elastic_of(model_of(tiny_model, case), gone).model
    reading = Reading(model)
    pieces = [reading.read(piece) for piece in torch.split(IDS, [6, 1, 1, 4, 1], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), at_once(model, IDS), rtol=1e-4, atol=1e-4)
    assert reading.seen == IDS.shape[1]


@each_family
@each_gone
@torch.inference_mode()
def test_endings_of_different_lengths_share_a_prefix(
    case: str, gone: tuple[int, ...], tiny_model: Callable[..., Any]
) -> None:
    model = elastic_of(model_of(tiny_model, case), gone).model
    start, endings = Reading(model), [[5, 6, 7, 8], [9], [10, 11]]
    start.read(IDS)
    for _ in range(2):  # the first pass must not change the shared prefix
        found = start.repeated(3).read(padded(endings, model.device))
        for row, ending in zip(found, endings, strict=True):
            expected = at_once(model, torch.tensor([[*IDS[0].tolist(), *ending]]))[0, IDS.shape[1] :]
            torch.testing.assert_close(row[: len(ending)], expected, rtol=1e-4, atol=1e-4)


@each_gone
@torch.inference_mode()
def test_bytes_are_those_of_keys_and_values(gone: tuple[int, ...], tiny_model: Callable[..., Any]) -> None:
    reading = Reading(elastic_of(model_of(tiny_model, "llama"), gone).model)
    reading.read(IDS)
    head_dim, groups, float32 = 8, 4, 4
    assert reading.nbytes == 2 * head_dim * groups * float32 * (3 - len(gone)) * IDS.shape[1]
