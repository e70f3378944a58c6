"""Local sensitivities: estimated values of each choice, accuracy of the estimates, and reuse by later runs."""

import json
from contextlib import chdir

import numpy as np
from scipy.stats import spearmanr
from workplace import Workplace

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.architecture.choices import Choice
from prunecast.measure.dispatch import Dispatch
from prunecast.measure.engine import Engine
from prunecast.measure.sensitivities import LocalSensitivities
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.search.neighbours import estimated_positions
from prunecast.spec.load import load_spec

ARGUMENTS = ("run", "tiny.yaml", "--json", "--quiet", "--set", "export=null", "--set", "baselines=[]")
AROUND = (*ARGUMENTS, "--set", "neighbours=1")
FOUND = "SELECT s.changes_json, v.architecture FROM steps s JOIN measurements v USING (architecture_id)"


def test_estimated_positions_are_at_doubling_distances_and_both_ends() -> None:
    choice = Choice("mlp", (0,), tuple((width,) for width in range(20)))
    assert estimated_positions(choice, 9) == [0, 1, 5, 7, 8, 10, 11, 13, 17, 19]
    assert estimated_positions(choice, 0) == [1, 2, 4, 8, 16, 19]
    assert estimated_positions(Choice("attention", (0,), ((1, 1),)), 0) == []


def test_a_choice_of_tied_layers_changes_all_of_them(workplace: Workplace) -> None:
    workplace.prunecast(*AROUND, "--set", "space.tie=2", "--set", "rounds=1")
    ((changes, point),) = workplace.sql(FOUND)
    layers = Architecture.parse(point).layers
    stepped = {(layer, tuple(kept)) for layer, *kept, _, _ in json.loads(changes)}
    assert {layer for layer, _ in stepped} == set(range(len(layers)))
    assert all(((1, kept) in stepped) for layer, kept in stepped if layer == 0)


def test_a_repeated_run_reuses_sensitivities_from_the_registry(workplace: Workplace) -> None:
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


def test_sensitivities_do_not_depend_on_the_seed_of_the_run(workplace: Workplace) -> None:
    point, host = Architecture([(4, 2, 12)] * 4), PluginHost.discover()
    found = []
    with chdir(workplace.folder):
        for seed in (0, 1):
            setup = Setup(load_spec("tiny.yaml", host, [f"seed={seed}"]), host)
            with Registry.open(f"{seed}.db") as registry:
                run = registry.start_run(setup.spec.key, "tiny", "{}", "").id
                quiet = Progress(quiet=True)
                dispatch = Dispatch.of(setup, Engine(setup, quiet), quiet)
                estimates = LocalSensitivities(dispatch, setup.evaluators, registry, run, quiet)
                found.append(estimates.estimate({point: {(1, Layer(4, 2, 6)), (2, Layer(2, 2, 12))}}))
    assert found[0] == found[1]


def test_estimated_changes_rank_like_measured_ones(workplace: Workplace) -> None:
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
    ((changes, point),) = workplace.sql(FOUND)
    layers = Architecture.parse(point).layers
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
    real = np.array([values[architecture] for architecture, _ in around]) - values[Architecture.parse(point)]
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
