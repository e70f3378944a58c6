"""Refinement of a space, rule by rule."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from workplace import SMOLLM2

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.budget import Budget
from prunecast.architecture.shape import ModelShape
from prunecast.plugins.interfaces import Metric, Predictor
from prunecast.predict.importance import ChoiceImportance
from prunecast.problem.objective import Objective
from prunecast.problem.problem import Problem
from prunecast.search.refine import Refinement, refine
from prunecast.spec.model import NarrowSpec, RefineSpec, WidenSpec
from prunecast_plugins.spaces.layerwise import Layerwise, LayerwiseOptions

PPL = Objective((Metric("ppl", "minimize", "perplexity", "log"), Metric("acc", "maximize", "fraction")), (1.0, 1.0))
PAPER = RefineSpec(widen=WidenSpec(least=0.2))
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)


def paper_space(**options: object) -> Layerwise:
    """Thirty layers; as in Llama-2-7B, every query head has its own KV group."""
    dense = Architecture([(32, 1, 11008)] * 30)
    return Layerwise(
        LayerwiseOptions(layers="3:30", attention=RATES, mlp=RATES, **options), replace(SMOLLM2, dense=dense)
    )


def no_predictor(shape: ModelShape) -> Predictor[Any]:
    raise AssertionError("refinement needs no predictor")


def refined(
    space: Layerwise, limit: int | None = None, options: RefineSpec = PAPER, least_first: bool = False
) -> Refinement:
    """Refinement with importances that fall, or rise, with the position of the choice."""
    order = np.arange(len(space.choices), dtype=float) + 1
    shares = (order if least_first else order[::-1]) / order.sum()
    found = [
        ChoiceImportance(choice.name, choice.component, choice.layers, {"ppl": float(share), "acc": float(share)})
        for choice, share in zip(space.choices, shares, strict=True)
    ]
    budget = Budget(space.shape, {} if limit is None else {"parameters": limit})
    return refine(Problem(space.shape, space, budget, PPL, 0, no_predictor), found, options)


def test_default_shares_reproduce_the_paper() -> None:
    changes = refined(paper_space()).changes
    assert [sum(change.action == action for change in changes) for action in ("narrowed", "widened")] == [16, 14]
    narrowed, widened = changes[0], changes[-1]
    assert narrowed.choice == "attention.3"
    assert narrowed.after == tuple((heads, 1) for heads in (22, 26, 29))  # rates 0.3, 0.2, 0.1 of 32 heads
    assert widened.choice == "mlp.29"
    assert widened.after == tuple((round((1 - rate) * 11008),) for rate in (0.7, 0.6, 0.5, 0.4, 0.3, 0.2))
    assert changes[20].action == "kept"
    assert changes[20].after == changes[20].before


@pytest.mark.parametrize(("step", "hardest"), [(0.15, 0.6), (0.4, 0.5), (0.1, 0.7), (0.7, 0.7)])
def test_added_rates_do_not_exceed_the_allowed_maximum(step: float, hardest: float) -> None:
    widened = refined(paper_space(), options=RefineSpec(widen=WidenSpec(most=0.7, step=step))).changes[-1]
    assert widened.after[0] == (round((1 - hardest) * 11008),)


def test_every_change_has_a_rank_an_importance_and_a_reason() -> None:
    changes = refined(paper_space()).changes
    assert [change.rank for change in changes] == list(range(1, 55))
    assert sum(change.importance for change in changes) == pytest.approx(1)
    assert changes[0].reason == "among the 30% most important: cuts of up to 0.3"
    assert changes[-1].reason == "among the 26% least important: cuts of 0.2 to 0.7"


def test_proposals_of_the_refined_space_use_all_of_its_values() -> None:
    space = refined(paper_space()).space
    drawn = space.sample(400, np.random.default_rng(0))
    for column, choice in enumerate(space.choices):
        assert set(drawn[:, column]) == set(range(len(choice.values)))


def test_widened_choices_keep_the_highest_rate_of_the_space() -> None:
    space = Layerwise(LayerwiseOptions(layers="3:28", attention=(0, 0.34, 0.67, 1), mlp=(0, 0.4, 0.9)), SMOLLM2)
    for choice, change in zip(space.choices, refined(space).changes, strict=True):
        if change.action == "widened":
            assert choice.values[0] in change.after


def test_importance_does_not_grow_with_the_number_of_tied_layers() -> None:
    space = paper_space(tie=2)
    changes = refined(space).changes
    first, last_attention = changes[0], changes[13]
    assert space.choices[13].layers == (29,)
    share = 1 / sum(range(1, 29))
    assert first.importance == pytest.approx(28 * share / 2)
    assert last_attention.importance == pytest.approx(15 * share)


def test_infeasible_narrowings_are_undone_least_important_first() -> None:
    space = paper_space()
    options = RefineSpec(narrow=NarrowSpec(share=0.5, most=0.1), widen=WidenSpec(share=0))
    assert refined(space, options=options).changes[0].reason.endswith("would leave it fewer than two values")
    options = RefineSpec(narrow=NarrowSpec(share=0.5, most=0.2), widen=WidenSpec(share=0))
    smallest = Budget.of(space.shape, {"parameters": 0.62}).limits["parameters"]
    changes = refined(space, smallest, options, least_first=True).changes
    narrowed = [change.rank for change in changes if change.action == "narrowed"]
    back = [change.rank for change in changes if change.reason.endswith("no architecture would meet the budget")]
    assert narrowed
    assert back
    assert max(narrowed) < min(back)


def test_overlapping_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to more than 1"):
        RefineSpec(narrow=NarrowSpec(share=0.6), widen=WidenSpec(share=0.5))
