"""Checks of predictors."""

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Floats
from prunecast.errors import PrunecastError
from prunecast.plugins.interfaces import Prediction, Predictor
from prunecast.testing.checks import Conformance, DoesNotApply, Subject, Suite, Verdict, require
from prunecast.testing.common import COMMON_CHECKS, same
from prunecast.testing.landscape import SHAPE, pairs
from prunecast.testing.recorded import recorded_pairs
from prunecast.testing.subprocesses import call_in_subprocess

SEEN, TARGETS = pairs(24, seed=0)
UNSEEN, _ = pairs(10, seed=1)


class PredictorSubject(Subject[Predictor[Any]]):
    """A predictor under test."""

    def make(self, seed: int = 0) -> Predictor[Any]:
        """A new predictor, not fitted."""
        return self.plugin(self.validated(), SHAPE, seed)

    def fitted(self, targets: Floats = TARGETS, seed: int = 0) -> Predictor[Any]:
        """A predictor fitted on the first architectures of ``SEEN``, one per row of ``targets``."""
        predictor = self.make(seed)
        predictor.fit(SEEN[: len(targets)], targets.copy())
        return predictor

    def exercise(self) -> None:
        """Fit and predict."""
        self.fitted().predict(UNSEEN)


def predictions_have_the_shape_of_the_targets(subject: PredictorSubject) -> None:
    """Mean and standard deviation are finite arrays of shape (N, M): N architectures, M targets."""
    for targets in (TARGETS, TARGETS[:, :1]):
        prediction = subject.fitted(targets).predict(UNSEEN)
        for part, values in zip(("mean", "std"), prediction, strict=True):
            wanted = (len(UNSEEN), targets.shape[1])
            require(isinstance(values, np.ndarray), f"{part} is a {type(values).__name__}, not a numpy array")
            require(values.shape == wanted, f"{part} has shape {values.shape}, not {wanted}")
            require(np.isfinite(values).all(), f"{part} is not finite everywhere")


def standard_deviations_are_not_negative(subject: PredictorSubject) -> None:
    """A standard deviation is at least 0."""
    std = subject.fitted().predict(UNSEEN).std
    require((std >= 0).all(), f"the smallest standard deviation is {np.min(std)}")


def a_batch_is_predicted_like_one_by_one(subject: PredictorSubject) -> None:
    """The prediction for an architecture does not depend on the rest of the batch, nor on its position."""
    predictor = subject.fitted()
    batch = predictor.predict(UNSEEN)
    _close(batch, _joined([predictor.predict([architecture]) for architecture in UNSEEN]), "one by one")
    backwards = predictor.predict(UNSEEN[::-1])
    _close(batch, Prediction(backwards.mean[::-1], backwards.std[::-1]), "in reverse order")


def predicting_twice_gives_the_same(subject: PredictorSubject) -> None:
    """``predict`` gives the same result when it is called again."""
    predictor = subject.fitted()
    require(same(predictor.predict(UNSEEN), predictor.predict(UNSEEN)), "the second prediction differs from the first")


def the_same_seed_gives_the_same_predictions(subject: PredictorSubject) -> None:
    """Two instances with the same seed, fitted on the same pairs, predict the same to the last bit."""
    first, second = subject.fitted(seed=3).predict(UNSEEN), subject.fitted(seed=3).predict(UNSEEN)
    require(same(first, second), "two instances with the same seed differ: take all randomness from self.seed")


def another_process_predicts_the_same(subject: PredictorSubject) -> None:
    """A process with another hash seed predicts the same from the same seed and pairs."""
    there = call_in_subprocess(subject.plugin, _predictions, subject)
    require(
        same(tuple(_predictions(subject)), there), "another process differs: do not iterate over sets, do not hash text"
    )


def a_second_fit_forgets_the_first(subject: PredictorSubject) -> None:
    """A second ``fit`` discards everything learned by the first."""
    predictor = subject.make()
    predictor.fit(UNSEEN, np.ones((len(UNSEEN), 2)))
    predictor.fit(SEEN, TARGETS.copy())
    require(
        same(predictor.predict(UNSEEN), subject.fitted().predict(UNSEEN)), "predictions still depend on the first fit"
    )


def one_pair_is_enough(subject: PredictorSubject) -> None:
    """A predictor can be fitted on a single pair, and its predictions are finite."""
    mean, std = subject.fitted(TARGETS[:1]).predict(UNSEEN)
    require(np.isfinite(mean).all() and np.isfinite(std).all(), "predictions from one pair are not finite")


def constant_targets_are_predicted(subject: PredictorSubject) -> None:
    """If all targets are equal, their value is predicted, to a relative tolerance of 0.001."""
    mean, std = subject.fitted(np.full((len(SEEN), 2), 5.0)).predict(UNSEEN)
    require(np.allclose(mean, 5.0, rtol=1e-3), f"constant targets of 5 are predicted as {mean.flat[0]}")
    require(np.isfinite(std).all(), "the standard deviation is not finite")


def targets_are_not_mixed_up(subject: PredictorSubject) -> None:
    """Predictions have one column per target, in the order of ``fit``, also if the targets have different scales."""
    mean = subject.fitted().predict(SEEN).mean
    off = np.abs(mean - TARGETS).mean(axis=0) / np.abs(TARGETS).mean(axis=0)
    require((off < 1).all(), f"the columns are off by {off.round(2).tolist()} of their targets: are they in order?")


def targets_that_are_not_finite_are_refused(subject: PredictorSubject) -> None:
    """A NaN or infinite target raises PluginError, or ValueError as in scikit-learn."""
    for wrong in (np.nan, np.inf):
        targets = TARGETS.copy()
        targets[3, 1] = wrong
        try:
            subject.fitted(targets)
        except (PrunecastError, ValueError):
            continue
        require(False, f"it accepts a target that is {wrong}: raise PluginError")


def inputs_are_left_alone(subject: PredictorSubject) -> None:
    """``fit`` and ``predict`` modify neither the list of architectures nor the array of targets."""
    predictor, architectures, targets = subject.make(), list(SEEN), TARGETS.copy()
    predictor.fit(architectures, targets)
    predictor.predict(architectures)
    require(
        architectures == SEEN and same(targets, TARGETS), "fit or predict has modified its arguments: copy them first"
    )


def a_pickled_predictor_predicts_the_same(subject: PredictorSubject) -> None:
    """A fitted predictor can be pickled, and the loaded copy predicts the same."""
    predictor = subject.fitted()
    loaded: Predictor[Any] = pickle.loads(pickle.dumps(predictor))
    require(same(loaded.predict(UNSEEN), predictor.predict(UNSEEN)), "a predictor predicts differently after pickling")


def several_threads_predict_the_same(subject: PredictorSubject) -> None:
    """If ``thread_safe`` is True, ``predict`` gives the same result in several threads at once."""
    if not subject.plugin.thread_safe:
        raise DoesNotApply("thread_safe is False")
    predictor = subject.fitted()
    alone = predictor.predict(UNSEEN)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(predictor.predict, [UNSEEN] * 16))
    require(all(same(alone, each) for each in together), "predictions differ when several threads predict at once")


def importances_cover_every_component_and_target(subject: PredictorSubject) -> None:
    """Importances, if the predictor has any, have shape (L, 2, M) and are finite and at least 0."""
    importances = subject.fitted().importances()
    if importances is None:
        raise DoesNotApply("the predictor has no importances")
    wanted = (len(SHAPE.dense.layers), 2, TARGETS.shape[1])
    require(np.shape(importances) == wanted, f"importances have shape {np.shape(importances)}, not {wanted}")
    require((np.isfinite(importances) & (importances >= 0)).all(), "an importance is negative or not finite")


def seen_pairs_are_ranked_better_than_by_chance(subject: PredictorSubject) -> None:
    """Fitted on real measurements, it ranks them with a Kendall tau above 0 for every metric."""
    from scipy.stats import kendalltau

    recorded = recorded_pairs()
    predictor = subject.plugin(subject.validated(), recorded.shape, 0)
    predictor.fit(recorded.architectures, recorded.targets)
    mean = predictor.predict(recorded.architectures).mean
    taus = [kendalltau(*columns).statistic for columns in zip(mean.T, recorded.targets.T, strict=True)]
    require(
        all(tau > 0 for tau in taus),
        f"Kendall tau on the pairs it was fitted on is {np.round(taus, 2).tolist()}, not above 0",
    )


def _predictions(subject: PredictorSubject) -> Prediction:
    return subject.fitted().predict(UNSEEN)


def _joined(predictions: Sequence[Prediction]) -> Prediction:
    means, stds = zip(*predictions, strict=True)
    return Prediction(np.concatenate(means), np.concatenate(stds))


def _close(left: Prediction, right: Prediction, how: str) -> None:
    for part, one, other in zip(("mean", "std"), left, right, strict=True):
        require(np.allclose(one, other, rtol=1e-6, atol=1e-9), f"{part} differs if architectures are predicted {how}")


PREDICTORS = Suite(
    PredictorSubject,
    (
        *COMMON_CHECKS,
        predictions_have_the_shape_of_the_targets,
        standard_deviations_are_not_negative,
        a_batch_is_predicted_like_one_by_one,
        predicting_twice_gives_the_same,
        the_same_seed_gives_the_same_predictions,
        another_process_predicts_the_same,
        a_second_fit_forgets_the_first,
        one_pair_is_enough,
        constant_targets_are_predicted,
        targets_are_not_mixed_up,
        targets_that_are_not_finite_are_refused,
        inputs_are_left_alone,
        a_pickled_predictor_predicts_the_same,
        several_threads_predict_the_same,
        importances_cover_every_component_and_target,
        seen_pairs_are_ranked_better_than_by_chance,
    ),
)
"""Suite of predictors."""


class PredictorConformance(Conformance, suite=PREDICTORS):
    """Base of a test class for a predictor: set ``plugin``, and every check of predictors becomes a test."""


def check_predictor(
    plugin: type[Predictor[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Run every check on a predictor. Raises CheckFailed, with one line per failed check, if any fails.

    Args:
        plugin: class under test.
        options: options of the test; small values make it quick.
        expected_failures: names of checks that it is known to fail, each with the reason.
    """
    return PREDICTORS.check(plugin, options, expected_failures)
