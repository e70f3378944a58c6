"""The packaged specs of the paper's protocol."""

import pytest
from workplace import SMOLLM2

from prunecast.architecture.choices import architectures_at
from prunecast.architecture.shape import ModelShape
from prunecast.plugins.host import PluginHost
from prunecast.run.estimate import EstimatedStage, estimate
from prunecast.spec.load import load_spec
from prunecast.spec.stages import SENSITIVITY_EVALUATIONS
from prunecast_plugins.spaces.layerwise import Layerwise

HOST = PluginHost.discover()


def test_the_paper_is_estimated_without_the_model() -> None:
    found = estimate(load_spec("paper", HOST), HOST)
    assert (found.parameters, found.choices) == (6_738_415_616, 54)
    stages = {stage.stage: stage.architectures for stage in found.stages}
    assert stages == {"dense": 1, "pairs": 525, "rounds": 18, "verify": 18, "baselines": 18, "recover": 1}
    pairs = found.stages[1]
    assert pairs.tokens - pairs.estimated == 525 * 2 * 16384
    assert pairs.estimated > 525 * 1531 * 50  # evaluation on questions
    assert 2 * pairs.tokens * 6.6e9 < pairs.petaflop * 1e15 < 2 * pairs.tokens * 8e9


def estimated(*overrides: str) -> dict[str, EstimatedStage]:
    found = estimate(load_spec("paper", HOST, ("verify.evaluators=[]", *overrides)), HOST)
    return {stage.stage: stage for stage in found.stages}


TEXT = "evaluators=[{use: perplexity, dataset: ptb, tokens: 1000, context: 100}]"
UNTOLD = "evaluators=[{use: multiple_choice, dataset: piqa}]"
DISTILL = "recover={method: distill, samples: 100, batch: 8, tokens: 256, epochs: 2}"


def test_an_estimate_counts_training_as_three_forward_passes() -> None:
    recover = estimated(TEXT, DISTILL)["recover"]
    assert (recover.tokens, recover.estimated) == (1000 + 3 * 25 * 8 * 256, 0)
    recover = estimated(TEXT, "recover={method: lora, steps: 10, batch: 4, tokens: 100}")["recover"]
    assert (recover.tokens, recover.estimated) == (1000 + 3 * 10 * 4 * 100, 3 * 10 * 4 * 100)
    text = estimated(TEXT)["dense"]
    assert recover.petaflop == pytest.approx(text.petaflop * recover.tokens / text.tokens)


def test_an_estimate_lists_stages_it_cannot_count() -> None:
    stages = estimated(UNTOLD, "recover={method: lora, dataset: absent.jsonl}")
    assert [stages[name].uncounted for name in ("dense", "pairs", "recover")] == [1, 525, 2]
    assert {stages[name].tokens for name in ("dense", "pairs", "recover")} == {0}


def test_an_estimate_takes_the_evaluations_of_searches_from_the_spec() -> None:
    asked = estimated(TEXT, "baselines=[evolution]", "baseline_evaluations=100")["evolution"]
    assert (asked.architectures, asked.tokens) == (100, 100_000)
    assert estimated(TEXT, "baselines=[evolution]")["evolution"].architectures == 525 + 18
    around = estimated(TEXT, "baselines=[evolution]", "neighbours=2")
    assert around["evolution"].architectures == 525 + 18 + 2 * SENSITIVITY_EVALUATIONS
    assert around["neighbours"].architectures == 2 * SENSITIVITY_EVALUATIONS


@pytest.mark.parametrize(("name", "shape"), [("paper-smollm2", SMOLLM2)])
def test_four_hundred_pairs_tie_layers_in_fours_and_the_rest_are_free(name: str, shape: ModelShape) -> None:
    import numpy as np

    spec = load_spec(name, HOST)
    space = Layerwise(spec.space.options, shape)  # type: ignore[arg-type]
    indices = space.sample(spec.collect.pairs, np.random.default_rng(0))
    mlps = [column for column, choice in enumerate(space.choices) if choice.component == "mlp"]
    groups = [mlps[start : start + 4] for start in range(0, len(mlps), 4)]
    tied = [all(len(set(row[group].tolist())) == 1 for group in groups) for row in indices]
    assert (sum(tied), len(tied)) == (400, 525)
    assert len(set(architectures_at(space.choices, shape.dense, indices))) > 500
