"""The packaged specs of the paper's protocol."""

import pytest
from workplace import SMOLLM2

from prunecast.choices import architectures_at
from prunecast.pipeline.outline import outline
from prunecast.plugins import PluginHost
from prunecast.shape import ModelShape
from prunecast.spec.load import load_spec
from prunecast_plugins.spaces.layerwise import Layerwise

HOST = PluginHost.discover()


def test_the_paper_is_outlined_without_the_model() -> None:
    found = outline(load_spec("paper", HOST), HOST)
    assert (found.parameters, found.choices) == (6_738_415_616, 54)
    stages = {stage.stage: stage.architectures for stage in found.stages}
    assert stages == {"dense": 1, "pairs": 525, "rounds": 18, "verify": 18, "baselines": 18, "recover": 1}
    pairs = found.stages[1]
    assert pairs.tokens == 525 * 2 * 16384
    assert 2 * pairs.tokens * 6.6e9 < pairs.petaflop * 1e15 < 2 * pairs.tokens * 8e9


@pytest.mark.parametrize(("name", "shape"), [("paper-smollm2", SMOLLM2)])
def test_four_hundred_pairs_are_tied_in_fours_and_the_rest_are_free(name: str, shape: ModelShape) -> None:
    import numpy as np

    spec = load_spec(name, HOST)
    space = Layerwise(spec.space.options, shape)  # type: ignore[arg-type]
    indices = space.sample(spec.collect.pairs, np.random.default_rng(0))
    mlps = [column for column, choice in enumerate(space.choices) if choice.component == "mlp"]
    groups = [mlps[start : start + 4] for start in range(0, len(mlps), 4)]
    tied = [all(len(set(row[group].tolist())) == 1 for group in groups) for row in indices]
    assert (sum(tied), len(tied)) == (400, 525)
    assert len(set(architectures_at(space.choices, shape.dense, indices))) > 500
