"""Tables that fit a terminal."""

from prunecast.cli.tables import WIDTH, fitted

METRICS = [f"a-long-data-set-{n}.validation.perplexity" for n in range(12)]
PRUNERS = [f"obs compensate.method=least-squares calibration={','.join(['wikipedia/64/train'] * n)}" for n in (1, 9)]


def rows(count: int) -> list[dict[str, object]]:
    """Rows with a column for each metric, the first of which only one row has, and two pruners."""
    return [
        {"run": n, **dict.fromkeys(METRICS, 1.5), METRICS[0]: 2.5 if n == 0 else None, "pruner": PRUNERS[n % 2]}
        for n in range(count)
    ]


def test_what_is_the_same_in_all_rows_is_said_once() -> None:
    block, left_out = fitted([{"run": n, "pruner": PRUNERS[1], "dtype": "float32"} for n in (1, 2)], ["pruner"])
    first, *_ = block.splitlines()
    assert first.startswith("pruner  obs compensate.method=least-squares calibration=")
    assert "".join(block.split("\n\n")[0].split()) == "".join(f"pruner{PRUNERS[1]}".split())
    assert block.split("\n\n")[1].splitlines()[0].split() == ["run", "dtype"]
    assert left_out == []


def test_columns_with_fewest_values_are_left_out_and_long_texts_are_numbered() -> None:
    block, left_out = fitted(rows(3), ["pruner"], METRICS)
    assert max(map(len, block.splitlines())) <= WIDTH
    assert len(left_out) > 1
    assert left_out == [METRICS[0], *METRICS[-len(left_out) + 1 :]]
    table, legend = block.split("\n\n")
    assert [line.split()[-1] for line in table.splitlines()[-3:]] == ["[1]", "[2]", "[1]"]
    assert legend.startswith(f"pruner [1]  {PRUNERS[0]}\npruner [2]  obs ")


def test_an_evaluator_goes_with_its_metric() -> None:
    evaluators = {f"{name}.evaluator": "perplexity tokens=16384" for name in METRICS}
    block, left_out = fitted(
        [{**row, **evaluators, f"{METRICS[0]}.evaluator": n} for n, row in enumerate(rows(2))],
        ["pruner", *evaluators],
        METRICS,
    )
    assert METRICS[0] in left_out
    assert METRICS[0].split(".")[0] not in block


def test_texts_are_cut_if_nothing_else_makes_them_fit() -> None:
    block, _ = fitted([{"what": "x" * 300, "number": 1}, {"what": "y", "number": 2}])
    _, _, first, second = block.splitlines()
    assert len(first) == WIDTH
    assert first.endswith("x…       1")
    assert second.startswith("y ")
