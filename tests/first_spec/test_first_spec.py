"""First specs as text, compared with ``golden/``. RENEW_GOLDEN=1 rewrites the files; review the difference."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from first_looks import BUNDLED, FAST, SLOW, TINY, at_hand, smollm2
from transformers import AutoConfig

from prunecast.errors import BudgetError, ModelError
from prunecast.first_spec.first_spec import spec_for
from prunecast.first_spec.look import check_memory, ranking_bytes
from prunecast.first_spec.workload import (
    FIT_SECONDS,
    RUN_SECONDS,
    WORKLOADS,
    Workload,
    largest_within,
    run_seconds,
)
from prunecast.first_spec.write import Wishes, attention_rates, quantity_for, whole_layers, with_free_name
from prunecast.models.source import ModelSource
from prunecast.plugins.host import PluginHost
from prunecast.spec.load import parse_spec
from prunecast.testing.models import shape_of

GOLDEN = Path(__file__).with_name("golden")

CASES = {
    "fast-machine": (Wishes("smollm2-135m", 30, 0.8, Path()), smollm2()),
    "little-memory": (
        Wishes("some-organisation/true", 5, 0.625, Path()),
        at_hand(
            TINY,
            replace(SLOW, memory=10**7),
            BUNDLED,
            ModelSource("hub", "some-organisation/true", Path("snapshot"), "0123abc"),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_text_equals_the_golden_file(name: str) -> None:
    wishes, found = CASES[name]
    text = spec_for(wishes, found, PluginHost.discover()).text
    path = GOLDEN / f"{name}.yaml"
    if "RENEW_GOLDEN" in os.environ:
        path.write_text(text)
    assert text == path.read_text()
    assert max(map(len, text.splitlines())) <= 120
    parse_spec(text, PluginHost.discover())


def test_a_name_is_free_of_exports_and_of_other_specs(tmp_path: Path) -> None:
    wishes, file = Wishes("models/one", 30, 0.8, tmp_path), tmp_path / "one.yaml"
    assert with_free_name(wishes, file).run_name == wishes.run_name == "one-80"
    (tmp_path / "out" / "one-80").mkdir(parents=True)
    assert with_free_name(wishes, None).run_name == "one-80-2"
    (tmp_path / "other.yml").write_text("# a spec\nname: one-80-2  # of a run\nmodel: {source: name}\n")
    (tmp_path / "damaged.yaml").write_bytes(b"\xff\xfe")
    assert with_free_name(wishes, file).run_name == "one-80-3"
    assert with_free_name(wishes, tmp_path / "other.yml").run_name == "one-80-2", "of the file that is replaced"
    text = spec_for(with_free_name(wishes, file), smollm2(), PluginHost.discover()).text
    assert "\nname: one-80-3  #" in text
    assert with_free_name(replace(wishes, budget=0.7), file).run_name == "one-70"


def test_a_faster_machine_measures_more() -> None:
    host, wishes = PluginHost.discover(), Wishes("smollm2-135m", 30, 0.8, Path())
    texts = [spec_for(wishes, smollm2(machine), host).text for machine in (SLOW, FAST)]
    slow, fast = (parse_spec(text, host) for text in texts)
    assert slow.collect.pairs < fast.collect.pairs == WORKLOADS[-1].pairs
    told = ["\n# as many as a run of about 30 minutes allows", "\n# the most that init proposes; 30 minutes allow more"]
    assert [[line in text for line in told] for text in texts] == [[True, False], [False, True]]


def test_every_amount_of_work_takes_longer_than_the_one_before() -> None:
    times = [passes(work) for work in WORKLOADS]
    assert times == sorted(set(times))


@pytest.mark.parametrize("number", range(len(WORKLOADS)))
def test_the_largest_amount_of_work_in_the_time_is_chosen(number: int) -> None:
    # The time of its run is just enough, and a little less is not.
    minutes = passes(WORKLOADS[number]) / 60 + 1e-9
    assert largest_within(minutes, passes) == (WORKLOADS[number], passes(WORKLOADS[number]))
    if number:
        assert largest_within(0.999 * minutes, passes)[0] == WORKLOADS[number - 1]


def test_a_run_takes_time_besides_its_passes() -> None:
    work = WORKLOADS[-1]
    assert run_seconds(work, 10.0, 100) == 10 / 0.5 + RUN_SECONDS + (work.rounds + 1) * FIT_SECONDS + 20
    assert run_seconds(WORKLOADS[0], 0.0, 17) > 20, "of a model whose passes take no time"


def test_a_tiny_model_is_told_more_than_the_time_of_its_passes() -> None:
    found = CASES["little-memory"][1]
    instant = replace(found, machine=replace(found.machine, speed=1e18, ranking_speed=1e18))
    (note, *_) = spec_for(Wishes("tiny", 30, 0.8, Path()), instant, PluginHost.discover()).notes
    assert note.startswith("the run takes about 1.0 minutes on this machine"), note
    with pytest.raises(BudgetError, match=r"the smallest run of this model takes about \d+ s on this machine"):
        spec_for(Wishes("tiny", 0.2, 0.8, Path()), instant, PluginHost.discover())


def test_too_little_time_is_refused_and_the_time_named_is_enough() -> None:
    with pytest.raises(
        BudgetError, match=r"--minutes 0\.5: the smallest run .* give --minutes ([\d.]+) or more"
    ) as found:
        largest_within(0.5, passes)
    named = float(str(found.value).rpartition("--minutes ")[2].removesuffix(" or more"))
    assert largest_within(named, passes)[0] == WORKLOADS[0]


@pytest.mark.parametrize(
    ("depth", "whole"), [(1, (0, 0)), (4, (0, 0)), (6, (1, 0)), (12, (1, 1)), (30, (3, 2)), (80, (8, 5))]
)
def test_fewer_layers_stay_whole_where_there_are_few(depth: int, whole: tuple[int, int]) -> None:
    assert whole_layers(depth) == whole


@pytest.mark.parametrize(
    ("heads", "groups", "rates"),
    [
        (9, 3, (0.0, 0.33, 0.56, 0.67)),
        (4, 1, (0.0, 0.25, 0.67)),
        (12, 12, (0.0, 0.08, 0.33, 0.67)),
        (1, 1, (0.0,)),
    ],
)
def test_rates_of_attention_are_those_of_heads_and_groups(heads: int, groups: int, rates: tuple[float, ...]) -> None:
    sizes = {**TINY, "hidden_size": 8 * heads, "num_attention_heads": heads, "num_key_value_heads": groups}
    assert attention_rates(shape_of(AutoConfig.for_model("llama", **sizes))) == rates


def test_the_budget_leaves_out_embeddings_that_are_most_of_a_model() -> None:
    assert quantity_for(smollm2().look.shape) == "parameters"
    assert quantity_for(CASES["little-memory"][1].look.shape) == "parameters_without_embeddings"


def test_windows_are_powers_of_two_that_fit_the_context() -> None:
    look = smollm2().look
    contexts = {512: 512, 511: 256, 8192: 512, 33: 32, 2: 2}
    shapes = {context: replace(look.shape, context=context) for context in contexts}
    assert {context: replace(look, shape=shape).window for context, shape in shapes.items()} == contexts
    assert replace(look, bos=1).window == 256


def test_memory_that_holds_no_gradients_is_refused() -> None:
    shape = smollm2().look.shape
    parameters = 134_515_008
    moments = 30 * (576**2 + 1536**2)
    assert ranking_bytes(shape) == 4 * (parameters + 2 * moments + 2 * 30 * 576**2)
    check_memory(shape, 8 * parameters, "it")
    with pytest.raises(ModelError, match="model it: ranking its units takes about 1,076,120,064 B in float32"):
        check_memory(shape, 8 * parameters - 1, "it")


def passes(work: Workload) -> float:
    """Time in seconds: the evaluations that an amount of work asks for, at 1,000 tokens a second, and its ranking."""
    searched = 1 + work.pairs + work.rounds * (work.per_round + 14 * work.neighbours)
    reported = 2 * (1 + work.top + 2)
    return ((searched + reported) * work.tokens + 3 * 512 * work.samples) / 1000
