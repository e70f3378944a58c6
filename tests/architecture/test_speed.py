"""Times of architectures from a table of measured components, added up by hand."""

from dataclasses import replace

import numpy as np
import pytest

from prunecast.architecture.architecture import Architecture, sizes_of
from prunecast.architecture.budget import Budget
from prunecast.architecture.choices import Choice, value_costs
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.architecture.speed import SPEEDS, LayerTimes, Speed, SpeedTable, Times
from prunecast.errors import BudgetError

NO_MLP = (0, Times(0, 0))
WIDE = LayerTimes(
    attention=((1, 1, Times(1_000, 500)), (2, 1, Times(1_400, 600)), (2, 2, Times(2_100, 900))),
    mlp=(NO_MLP, (4, Times(3_000, 100)), (8, Times(4_000, 300))),
)
NARROW = LayerTimes(attention=((2, 2, Times(1_700, 800)),), mlp=(NO_MLP, (8, Times(3_500, 250))))
TABLE = SpeedTable(batch=2, context=16, fixed=Times(10_000, 7_000), kinds=(0, 1, 0), layers=(WIDE, NARROW))
COST = LayerCost(ComponentCost(base=7, unit=100, head=80), ComponentCost(base=3, unit=20))
SHAPE = ModelShape(
    family="gemma2",
    dense=Architecture([(2, 2, 8)] * 3),
    hidden_size=10,
    head_dim=4,
    vocabulary=50,
    context=30,
    embeddings=500,
    fixed=510,
    layers=(COST, replace(COST, window=7), COST),
)
TIMED = SHAPE.with_speeds(TABLE)


def test_times_add_up_by_kind_of_layer_and_widths_are_interpolated() -> None:
    some = Architecture([(2, 1, 6), (2, 2, 4), (0, 0, 2)])
    prefill = 10_000 + (1_400 + 3_500) + (1_700 + 1_750) + 1_500
    decode = 7_000 + (600 + 200) + (800 + 125) + 50
    assert TIMED.kinds == TABLE.kinds
    assert [int(TIMED.count([some], speed)[0]) for speed in SPEEDS] == [prefill, decode]
    nothing = Architecture([(0, 0, 0)] * 3)
    assert [int(TIMED.count([nothing], speed)[0]) for speed in SPEEDS] == [10_000, 7_000]


def test_an_attention_that_was_not_measured_follows_from_a_fit_and_measured_ones_are_as_measured() -> None:
    attention, _ = TABLE.component_times(sizes_of([Architecture([(1, 2, 0), (1, 1, 0), (2, 2, 0)])]), "prefill_ms")
    # 1,000 = a + b + c, 1,400 = a + 2 b + 2 c and 2,100 = a + 2 b + 4 c: a = 600, b = 50 and c = 350.
    assert attention[0, 0] == 600 + 50 + 2 * 350
    assert attention[0, 2] == 2_100
    assert 0 < attention[0, 1] < 1_700


@pytest.mark.parametrize("speed", SPEEDS)
def test_costs_of_values_are_those_of_the_layers_of_a_choice(speed: Speed) -> None:
    choices = (Choice("attention", (0, 2), ((0, 0), (1, 1), (2, 2))), Choice("mlp", (1,), ((0,), (4,), (8,))))
    for choice, costs in zip(choices, value_costs(choices, TIMED, speed), strict=True):
        for value, cost in zip(choice.values, costs.tolist(), strict=True):
            part = (*value, 0) if choice.component == "attention" else (0, 0, *value)
            alone = Architecture([part if layer in choice.layers else (0, 0, 0) for layer in range(3)])
            assert cost == TIMED.count([alone], speed)[0] - TABLE.fixed[SPEEDS.index(speed)]


def test_a_table_is_read_back_as_it_was_written() -> None:
    assert SpeedTable.from_json(TABLE.to_json()) == TABLE


def test_a_speed_without_a_table_of_the_context_is_refused_in_one_line() -> None:
    with pytest.raises(
        BudgetError, match=r"^prefill_ms of a gemma2 model has not been measured at context 30: run .*$"
    ):
        SHAPE.count([SHAPE.dense], "prefill_ms")
    with pytest.raises(BudgetError, match=r"decode_ms .* context 12"):
        TIMED.at(12).count([SHAPE.dense], "decode_ms")


def test_proposals_meet_limits_of_speed_and_use_them_up() -> None:
    values = ((0, 0), (1, 1), (2, 1), (2, 2))
    widths = tuple((width,) for width in range(0, 9, 2))
    choices = [Choice("attention", (layer,), values) for layer in range(3)]
    choices += [Choice("mlp", (layer,), widths) for layer in range(3)]
    budget = Budget.of(SHAPE.with_speeds(TABLE), {"prefill_ms": 0.8, "parameters": 0.9}, 16)
    rng = np.random.default_rng(0)
    proposals = np.stack([rng.integers(0, len(choice.values), 50) for choice in choices], axis=1)
    fitted = budget.fit(choices, proposals, rng)
    sizes = np.zeros((50, 3, 3), dtype=np.int64)
    for column, choice in enumerate(choices):
        part = slice(0, 2) if choice.component == "attention" else slice(2, 3)
        sizes[:, choice.layers[0], part] = np.array(choice.values)[fitted[:, column]]
    usage = budget.usage(sizes)
    assert budget.limits["prefill_ms"] == int(0.8 * TIMED.count([SHAPE.dense], "prefill_ms")[0])
    assert (usage <= 1).all()
    assert usage.mean() > 0.93


def test_a_limit_of_a_speed_that_cannot_be_met_is_told_in_milliseconds() -> None:
    budget = Budget.of(TIMED, {"prefill_ms": 0.1}, 16)
    assert Budget.of(TIMED, {"prefill_ms": 1.5}, 16).limits == {"prefill_ms": 1_500_000}
    with pytest.raises(BudgetError, match=r"prefill_ms <= 0\.00\d+ ms \(10\.0% of the dense model\): the smallest has"):
        budget.check([Choice("mlp", (0,), ((0,), (8,)))])
