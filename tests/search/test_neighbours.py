"""Looking around: which steps there are, that their estimates are right, and that a run keeps what it found."""

import json
from contextlib import chdir

import numpy as np
from scipy.stats import spearmanr
from workplace import Workplace

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.choices import Choice
from prunecast.measure.measure import Measuring
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.plugins.listeners import Listeners
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.search.neighbours import steps_of
from prunecast.spec.load import load_spec

ARGUMENTS = ("run", "tiny.yaml", "--json", "--quiet", "--set", "export=null", "--set", "baselines=[]")
AROUND = (*ARGUMENTS, "--set", "neighbours=1")
FOUND = "SELECT s.changes_json, v.architecture FROM steps s JOIN measurements v USING (architecture_id)"


def test_steps_double_and_come_to_both_ends() -> None:
    choice = Choice("mlp", (0,), tuple((width,) for width in range(20)))
    assert steps_of(choice, 9) == [0, 1, 5, 7, 8, 10, 11, 13, 17, 19]
    assert steps_of(choice, 0) == [1, 2, 4, 8, 16, 19]
    assert steps_of(Choice("attention", (0,), ((1, 1),)), 0) == []


def test_choices_that_tie_layers_step_in_all_of_them(workplace: Workplace) -> None:
    workplace.prunecast(*AROUND, "--set", "space.tie=2", "--set", "rounds=1")
    ((changes, centre),) = workplace.sql(FOUND)
    layers = Architecture.parse(centre).layers
    stepped = {(layer, tuple(kept)) for layer, *kept, _, _ in json.loads(changes)}
    assert {layer for layer, _ in stepped} == set(range(len(layers)))
    assert all(((1, kept) in stepped) for layer, kept in stepped if layer == 0)


def test_a_run_that_looks_around_finds_the_same_again_without_measuring(workplace: Workplace) -> None:
    first = workplace.prunecast(*AROUND).json
    query = "SELECT architecture_id, changes_json, measured_utc FROM steps ORDER BY architecture_id"
    found = workplace.sql(query)
    assert len(found) == 2  # one a round
    again = workplace.prunecast(*AROUND).json
    assert again["evaluations"]["measured"] == 0
    assert again["rounds"] == first["rounds"]
    assert workplace.sql(query) == found
    assert workplace.prunecast(*ARGUMENTS).json["rounds"] != first["rounds"]
    assert workplace.prunecast("registry", "verify").code == 0


def test_what_runs_of_all_seeds_share_is_the_same_whichever_of_them_finds_it(workplace: Workplace) -> None:
    centre, host = Architecture([(4, 2, 12)] * 4), PluginHost.discover()
    found = []
    with chdir(workplace.folder):
        for seed in (0, 1):
            setup = Setup(load_spec("tiny.yaml", host, [f"seed={seed}"]), host)
            with Registry.open(f"{seed}.db") as registry:
                run = registry.start_run(setup.spec.key, "tiny", "{}", "").id
                measuring = Measuring(setup, registry, run, Progress(quiet=True), Listeners(host))
                found.append(measuring.steps(centre, {(1, Layer(4, 2, 6)), (2, Layer(2, 2, 12))}))
    assert found[0] == found[1]


def test_estimates_rank_steps_as_measuring_them_does(workplace: Workplace) -> None:
    fine = (
        "--set",
        "budget.parameters=0.95",
        "--set",
        "space.attention=[0.0]",
        "--set",
        f"space.mlp={[i / 24 for i in range(20)]}",
        "--set",
        "evaluators=[{use: kl, dataset: validation.txt, tokens: 4096, context: 16, batch: 64}]",
    )
    workplace.prunecast(*AROUND, *fine, "--set", "rounds=1")
    ((changes, centre),) = workplace.sql(FOUND)
    layers = Architecture.parse(centre).layers
    around = [
        (Architecture([*layers[:layer], kept, *layers[layer + 1 :]]), slope + curvature)
        for layer, *kept, slope, curvature in json.loads(changes)
    ]
    (workplace.folder / "around.txt").write_text("\n".join(str(architecture) for architecture, _ in around))
    measured = workplace.prunecast(
        *ARGUMENTS, *fine, "--set", "collect.architectures=around.txt", "--set", f"collect.pairs={len(around)}"
    ).json
    assert measured["predictor"]["pairs"] >= len(around)
    values = {
        Architecture.parse(text): value
        for text, value in workplace.sql('SELECT architecture, "validation.validation.kl" FROM measurements')
    }
    real = np.array([values[architecture] for architecture, _ in around]) - values[Architecture.parse(centre)]
    estimated = np.array([change for _, change in around])
    print(np.c_[real, estimated].round(4))
    assert spearmanr(real, estimated).statistic > 0.9
    assert np.abs(estimated - real).max() < np.abs(real).max() / 2


def test_evaluators_without_losses_are_refused_in_one_line(workplace: Workplace) -> None:
    speed = "{use: latency, prompt: 16, generate: 2}"
    text = "{use: perplexity, dataset: validation.txt, tokens: 256, context: 64}"
    done = workplace.prunecast(*AROUND, "--set", f"evaluators=[{speed}, {text}]")
    assert done.code == 1
    assert done.stderr.count("\n") == 1
    assert "neighbours: evaluator 'latency' of prunecast" in done.stderr
    assert "leave neighbours out" in done.stderr
