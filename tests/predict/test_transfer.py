"""Size-independent encodings, the reference model, and predictors trained on pairs of another model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau
from workplace import SMOLLM2

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.architecture.encodings import BINS, relative_depth
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.predict.transfer import STEPS, Prior, Source, Transferred, at_reference, reference_shape
from prunecast_plugins.predictors.gbdt import GBDT, GBDTOptions

SMALL = ModelShape(
    family="llama",
    dense=Architecture([(4, 2, 96)] * 5),
    hidden_size=64,
    head_dim=8,
    vocabulary=97,
    context=128,
    embeddings=97 * 64,
    fixed=97 * 64 + 64,
    layers=(LayerCost(ComponentCost(base=64, unit=1024, head=1024), ComponentCost(base=64, unit=192)),) * 5,
)

NARROW = replace(SMALL.layers[0], attention=ComponentCost(base=64, unit=512, head=2048))
MIXED = replace(
    SMALL,
    dense=Architecture([(4, 2, 96), (2, 3, 40), (0, 0, 96), (4, 2, 0), (3, 1, 20)]),
    layers=(SMALL.layers[0], NARROW, *SMALL.layers[2:]),
)
"""Layers that differ in size, one without attention and one without an MLP."""


def drawn(shape: ModelShape, count: int, seed: int) -> list[Architecture]:
    """Random architectures of all sizes."""
    rng, dense = np.random.default_rng(seed), np.array(shape.dense.layers)
    rates = rng.uniform(0, 1, (count, len(shape.dense.layers), 3)) ** rng.uniform(0.2, 3, (count, 1, 1))
    return Architecture.from_sizes(np.rint(rates * dense).astype(np.int64))


def lost(architectures: list[Architecture], shape: ModelShape) -> Floats:
    """Loss as a function of relative depth: early MLPs matter most, attention little; shape (N, 1)."""
    kept = relative_depth(architectures, shape)
    weights = np.linspace(3, 0.2, BINS)
    return np.asarray((((1 - kept[..., 2]) ** 2 + 0.2 * (1 - kept[..., 1])) @ weights)[:, None], dtype=np.float64)


def test_bins_average_the_kept_fractions_of_their_layers() -> None:
    kept = Architecture([(4, 2, 96), (2, 1, 48), (0, 0, 0), (4, 1, 24), (1, 2, 96)])
    layers = np.array([[1, 1, 1], [0.5, 0.25, 0.5], [0, 0, 0], [1, 0.5, 0.25], [0.25, 0.25, 1]])
    np.testing.assert_allclose(relative_depth([kept], SMALL, bins=5)[0], layers)
    np.testing.assert_allclose(relative_depth([kept], SMALL, bins=10)[0], layers.repeat(2, axis=0))
    np.testing.assert_allclose(relative_depth([kept], SMALL, bins=1)[0, 0], layers.mean(axis=0))
    halves = relative_depth([kept], SMALL, bins=2)[0]
    np.testing.assert_allclose(halves[0], (layers[0] + layers[1] + layers[2] / 2) / 2.5)
    np.testing.assert_allclose(halves.mean(axis=0), layers.mean(axis=0))


@pytest.mark.parametrize("shape", [SMALL, SMOLLM2, MIXED])
def test_mapping_to_the_reference_preserves_kept_fractions(shape: ModelShape) -> None:
    reference = reference_shape(shape)
    assert at_reference([shape.dense], shape) == [reference.dense]
    architectures = drawn(shape, 40, 0)
    carried = at_reference(architectures, shape)
    np.testing.assert_allclose(
        relative_depth(carried, reference), relative_depth(architectures, shape), atol=1.01 / STEPS
    )
    own, dense = (shape.count(each, "parameters") - shape.fixed for each in (architectures, [shape.dense]))
    theirs, whole = (reference.count(each, "parameters") - shape.fixed for each in (carried, [reference.dense]))
    np.testing.assert_allclose(theirs / whole, own / dense, atol=0.03)


@pytest.fixture(scope="module")
def prior() -> Prior:
    known = drawn(SMOLLM2, 120, 1)
    options = GBDTOptions(trees=60, members=4)
    return Prior(lambda shape: GBDT(options, shape, 0), SMALL, [Source("big", SMOLLM2, known, lost(known, SMOLLM2))])


def tau(predictor: Any, others: list[Architecture]) -> float:
    return float(kendalltau(predictor.predict(others).mean[:, 0], lost(others, SMALL)[:, 0]).statistic)


def test_pairs_of_another_model_improve_the_ranking(prior: Prior) -> None:
    own, others = drawn(SMALL, 12, 2), drawn(SMALL, 80, 3)
    unfitted = Transferred(prior)
    assert tau(unfitted, others) > 0.7
    targets = 7 + 0.3 * lost(own, SMALL)  # another scale and offset than the source's
    warm, cold = Transferred(prior), prior.new_predictor(SMALL)
    warm.fit(own, targets)
    cold.fit(own, targets)
    assert tau(warm, others) > tau(cold, others) + 0.02
    mean, std = warm.predict(others)
    truth = 7 + 0.3 * lost(others, SMALL)
    assert np.abs(mean - truth).mean() < np.abs(truth - truth.mean()).mean() / 2
    assert (std > 0).all()


def test_one_pair_or_equal_pairs_give_finite_predictions(prior: Prior) -> None:
    for own in (drawn(SMALL, 1, 4), [SMALL.dense, SMALL.dense]):
        warm = Transferred(prior)
        warm.fit(own, 5.0 + lost(own, SMALL))
        assert np.isfinite(warm.predict(drawn(SMALL, 10, 5)).mean).all()
