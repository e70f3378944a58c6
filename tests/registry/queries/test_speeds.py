"""Fronts by speed: which recorded component times are taken, what is left out, and what has to be chosen."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from registry_samples import ACCURACY, DEPTH, PPL, measurements, setting, shape, start

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ModelShape
from prunecast.architecture.speed import LayerTimes, SpeedTable, Times
from prunecast.cli.main import cli
from prunecast.errors import RegistryError
from prunecast.registry.queries.pareto import pareto
from prunecast.registry.queries.selection import Filter, query
from prunecast.registry.queries.speeds import Conditions, recorded_speeds
from prunecast.registry.records import ModelRecord, Timing
from prunecast.registry.store import Registry

NO_MLP = (0, Times(0, 0))
MS = 1_000_000
CONDITIONS = {"device": "Abacus 9", "threads": 2, "batch": 1, "context": 32}
ENGINE = "torch 2.13.0, transformers 5.23.0"


def table(context: int = 32, slower: int = 1, widths: tuple[int, ...] = (8, 24)) -> SpeedTable:
    """Prefill: 10 ms, 3 an attention and 0.5 a channel; decoding: a tenth of that but for attentions, which take 2."""
    attention = tuple((groups, 2, Times(slower * 3 * MS, 2 * MS)) for groups in (1, 4))
    mlp = tuple((width, Times(slower * width * MS // 2, width * MS // 20)) for width in widths)
    return SpeedTable(1, context, Times(10 * MS, MS), (0,) * DEPTH, (LayerTimes(attention, (NO_MLP, *mlp)),))


def keep(
    registry: Registry,
    times: SpeedTable,
    dtype: str = "float32",
    of: ModelShape | None = None,
    engine: str = ENGINE,
    **changes: object,
) -> None:
    where: dict[str, object] = CONDITIONS | {"batch": times.batch, "context": times.context} | changes
    timing = Timing(of or shape(), times.sizes, dtype=dtype, engine=engine, **where)  # type: ignore[arg-type]
    registry.keep_speeds(timing, times, 1.0)


MEASURED = {
    "4x2+24*3": 20.0,  # 10 + 3 * (3 + 12) = 55 ms and 1 + 3 * (2 + 1.2) = 10.6 ms
    "4x2+8*3": 25.0,  # 10 + 3 * (3 + 4) = 31 ms and 1 + 3 * 2.4 = 8.2 ms
    "0+24*3": 26.0,  # 10 + 3 * 12 = 46 ms and 1 + 3 * 1.2 = 4.6 ms
    "0+16*3": 30.0,  # 10 + 3 * 8 = 34 ms and 1 + 3 * 0.8 = 3.4 ms
}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Four architectures in float32, and the dense one, better than all, in bfloat16."""
    registry = Registry.open(tmp_path / "registry.db")
    run = start(registry)
    for text, ppl in MEASURED.items():
        registry.record(run, "sample", setting(), Architecture.parse(text), measurements(ppl), 2.0, "cpu")
    half = setting(dtype="bfloat16")
    registry.record(run, "sample", half, Architecture.parse("4x2+24*3"), measurements(10.0), 2.0, "cpu")
    return registry


def test_a_front_by_speed_is_that_of_the_times_added_up_by_hand(registry: Registry) -> None:
    keep(registry, table())
    prefill = pareto(registry, [PPL.name, "prefill_ms"], Filter())
    assert [(row["architecture"], row["prefill_ms"]) for row in prefill.rows] == [("4x2+24*3", 55.0), ("4x2+8*3", 31.0)]
    decode = pareto(registry, [PPL.name, "decode_ms"], Filter())
    assert [row["decode_ms"] for row in decode.rows] == pytest.approx([10.6, 8.2, 4.6, 3.4])
    assert prefill.left_out == decode.left_out == {"tiny in bfloat16": 1}


def test_macs_of_a_front_by_speed_stay_those_at_the_context_of_the_model(registry: Registry) -> None:
    keep(registry, table())
    rows = pareto(registry, [PPL.name, "prefill_ms", "macs"], Filter()).rows
    assert len(rows) == 4
    for row in rows:
        assert row["macs"] == shape().count([Architecture.parse(row["architecture"])], "macs")[0]


def test_without_component_times_everything_that_the_filters_take_is_left_out(registry: Registry) -> None:
    assert pareto(registry, [PPL.name, "prefill_ms"], Filter()).rows == []
    keep(registry, table(), of=shape(DEPTH + 1))  # another model
    front = pareto(registry, [PPL.name, "prefill_ms"], Filter(where=f'"{PPL.name}" > 22'))
    assert (front.rows, front.speeds, front.left_out) == ([], {"tiny": []}, {"tiny in float32": 3})


def test_each_dtype_has_its_own_times(registry: Registry) -> None:
    keep(registry, table())
    keep(registry, table(slower=2), dtype="bfloat16")
    front = pareto(registry, [PPL.name, "prefill_ms"], Filter())
    assert [(row["dtype"], row["prefill_ms"]) for row in front.rows] == [
        ("bfloat16", 100.0),
        ("float32", 55.0),
        ("float32", 31.0),
    ]
    assert front.left_out == {}
    assert [speeds.dtype for speeds in front.speeds["tiny"]] == ["float32", "bfloat16"]


def test_of_several_conditions_one_has_to_be_chosen(registry: Registry) -> None:
    keep(registry, table())
    keep(registry, table(context=64, slower=2))
    keep(registry, table(slower=3), device="Other")
    criteria = [PPL.name, "prefill_ms"]
    with pytest.raises(RegistryError) as refused:
        pareto(registry, criteria, Filter())
    assert str(refused.value) == (
        "several conditions are recorded for the component times of tiny: batch 1, context 32, Abacus 9, 2 threads; "
        "batch 1, context 64, Abacus 9, 2 threads; batch 1, context 32, Other, 2 threads; choose by device, threads, "
        "batch and context"
    )
    with pytest.raises(RegistryError, match=r"^several .*Abacus 9.*Other"):
        pareto(registry, criteria, Filter(), Conditions(context=32))
    chosen = pareto(registry, criteria, Filter(), Conditions(context=64))
    assert [row["prefill_ms"] for row in chosen.rows] == [100.0, 52.0]
    with pytest.raises(RegistryError, match=r"^other conditions than these alone are recorded .* context 64"):
        pareto(registry, criteria, Filter(), Conditions(batch=7))


def test_the_latest_engine_and_in_it_the_most_detailed_table_count(registry: Registry) -> None:
    keep(registry, table(slower=5), engine="torch 1")
    keep(registry, table(slower=2, widths=(4, 8, 24)))
    keep(registry, table())
    (taken,) = pareto(registry, [PPL.name, "prefill_ms"], Filter()).speeds["tiny"]
    assert (taken.engine, len(taken.table.layers[0].mlp)) == (ENGINE, 4)


def test_tables_are_those_of_the_sizes_of_a_model_and_no_others(registry: Registry) -> None:
    keep(registry, table())
    assert [each.table for each in recorded_speeds(registry, shape())] == [table()]
    assert recorded_speeds(registry, shape(DEPTH + 1)) == []
    with registry.transaction() as connection:
        connection.execute("UPDATE component_times SET times_json = '[1]'")
    with pytest.raises(RegistryError, match=r"is damaged, the component times 1 are no table .*; restore a copy of it"):
        recorded_speeds(registry, shape())


def test_conditions_without_a_speed_are_refused(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"^device, threads, batch and context choose component times, which none"):
        pareto(registry, [PPL.name, "macs"], Filter(), Conditions(batch=1))


def test_a_query_does_not_sort_by_a_speed_that_it_does_not_have(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="cannot sort by 'prefill_ms'"):
        query(registry, Filter(), "prefill_ms")


def test_models_are_compared_by_their_own_times(registry: Registry) -> None:
    other = setting(model=ModelRecord("abc" + "0" * 29, "other", shape(DEPTH + 1)))
    registry.record(1, "sample", other, Architecture.parse("4x2+24*4"), measurements(50.0), 2.0, "cpu")
    keep(registry, table())
    front = pareto(registry, [PPL.name, ACCURACY.name, "prefill_ms"], Filter())
    assert {row["model"] for row in front.rows} == {"tiny"}
    assert front.left_out == {"tiny in bfloat16": 1, "other in float32": 1}


def test_the_command_says_what_the_speeds_are_of_and_what_is_left_out(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(registry, table())
    monkeypatch.chdir(registry.path.parent)
    arguments = ("registry", "pareto", PPL.name, "prefill_ms", "--json")
    shown = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert [row["prefill_ms"] for row in json.loads(shown.stdout)] == [55.0, 31.0]
    assert shown.stderr.splitlines() == [
        "predicted for tiny: batch 1, context 32, Abacus 9, 2 threads, float32, torch 2.13.0, transformers 5.23.0",
        "left out, as no component times are recorded for them: 1 of tiny in bfloat16; a run whose budget limits "
        "prefill_ms or decode_ms measures them",
    ]
    named = CliRunner().invoke(cli, (*arguments, "--context", "33"), standalone_mode=False)
    assert (named.return_value, named.stdout) == (1, "")
    assert named.stderr.startswith("error: other conditions than these alone are recorded")
