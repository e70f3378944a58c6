"""The laws of predictors."""

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Floats
from prunecast.errors import PrunecastError
from prunecast.plugins.interfaces import Prediction, Predictor
from prunecast.testing.checks import Conformance, DoesNotApply, Subject, Suite, Verdict, hold
from prunecast.testing.common import COMMON_LAWS, same
from prunecast.testing.landscape import SHAPE, pairs
from prunecast.testing.recorded import recorded_pairs
from prunecast.testing.subprocesses import call_elsewhere

SEEN, TARGETS = pairs(24, seed=0)
UNSEEN, _ = pairs(10, seed=1)


class PredictorSubject(Subject[Predictor[Any]]):
    """A predictor on trial."""

    def make(self, seed: int = 0) -> Predictor[Any]:
        """One that has not been fitted."""
        return self.plugin(self.validated(), SHAPE, seed)

    def fitted(self, targets: Floats = TARGETS, seed: int = 0) -> Predictor[Any]:
        """One that has been fitted on the first architectures of ``SEEN``, one a row of ``targets``."""
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
            hold(isinstance(values, np.ndarray), f"{part} is a {type(values).__name__}, not a numpy array")
            hold(values.shape == wanted, f"{part} has shape {values.shape}, not {wanted}")
            hold(np.isfinite(values).all(), f"{part} is not finite everywhere")


def standard_deviations_are_not_negative(subject: PredictorSubject) -> None:
    """A standard deviation is at least 0."""
    std = subject.fitted().predict(UNSEEN).std
    hold((std >= 0).all(), f"the smallest standard deviation is {np.min(std)}")


def a_batch_is_predicted_like_one_by_one(subject: PredictorSubject) -> None:
    """What is predicted of an architecture does not depend on what else is in the batch, nor on its place in it."""
    predictor = subject.fitted()
    batch = predictor.predict(UNSEEN)
    _close(batch, _joined([predictor.predict([architecture]) for architecture in UNSEEN]), "one by one")
    backwards = predictor.predict(UNSEEN[::-1])
    _close(batch, Prediction(backwards.mean[::-1], backwards.std[::-1]), "in reverse order")


def predicting_twice_gives_the_same(subject: PredictorSubject) -> None:
    """``predict`` changes nothing that it depends on."""
    predictor = subject.fitted()
    hold(same(predictor.predict(UNSEEN), predictor.predict(UNSEEN)), "the second prediction differs from the first")


def the_same_seed_gives_the_same_predictions(subject: PredictorSubject) -> None:
    """Two instances with the same seed, fitted on the same pairs, predict the same to the last bit."""
    first, second = subject.fitted(seed=3).predict(UNSEEN), subject.fitted(seed=3).predict(UNSEEN)
    hold(same(first, second), "two instances with one seed differ: take all randomness from self.seed")


def another_process_predicts_the_same(subject: PredictorSubject) -> None:
    """The same seed and pairs give the same predictions in a process with another hash seed."""
    there = call_elsewhere(subject.plugin, _predictions, subject)
    hold(
        same(tuple(_predictions(subject)), there), "another process differs: do not iterate over sets, do not hash text"
    )


def a_second_fit_forgets_the_first(subject: PredictorSubject) -> None:
    """Fitting on some pairs and then on others is fitting on the others."""
    predictor = subject.make()
    predictor.fit(UNSEEN, np.ones((len(UNSEEN), 2)))
    predictor.fit(SEEN, TARGETS.copy())
    hold(same(predictor.predict(UNSEEN), subject.fitted().predict(UNSEEN)), "the first fit is still to be seen")


def one_pair_is_enough(subject: PredictorSubject) -> None:
    """Fitting on a single pair works, and predicts finite numbers."""
    mean, std = subject.fitted(TARGETS[:1]).predict(UNSEEN)
    hold(np.isfinite(mean).all() and np.isfinite(std).all(), "predictions from one pair are not finite")


def constant_targets_are_predicted(subject: PredictorSubject) -> None:
    """Where every pair measured the same, that is what is predicted, to within a thousandth."""
    mean, std = subject.fitted(np.full((len(SEEN), 2), 5.0)).predict(UNSEEN)
    hold(np.allclose(mean, 5.0, rtol=1e-3), f"5 everywhere is predicted as {mean.flat[0]}")
    hold(np.isfinite(std).all(), "the standard deviation is not finite")


def metrics_are_learnt_side_by_side(subject: PredictorSubject) -> None:
    """Each target has its own column, in the order of ``fit``: targets of other scales are not mixed up."""
    mean = subject.fitted().predict(SEEN).mean
    off = np.abs(mean - TARGETS).mean(axis=0) / np.abs(TARGETS).mean(axis=0)
    hold((off < 1).all(), f"the columns are off by {off.round(2).tolist()} of their targets: are they in order?")


def targets_that_are_not_finite_are_refused(subject: PredictorSubject) -> None:
    """A NaN or an infinity among the targets raises PluginError, or ValueError as scikit-learn does."""
    for wrong in (np.nan, np.inf):
        targets = TARGETS.copy()
        targets[3, 1] = wrong
        try:
            subject.fitted(targets)
        except (PrunecastError, ValueError):
            continue
        hold(False, f"it learns from a target that is {wrong}: raise PluginError")


def inputs_are_left_alone(subject: PredictorSubject) -> None:
    """Neither the list of architectures nor the array of targets is changed."""
    predictor, architectures, targets = subject.make(), list(SEEN), TARGETS.copy()
    predictor.fit(architectures, targets)
    predictor.predict(architectures)
    hold(architectures == SEEN and same(targets, TARGETS), "fit or predict has changed what it was given: copy first")


def a_pickled_predictor_predicts_the_same(subject: PredictorSubject) -> None:
    """A fitted predictor can be saved and loaded."""
    predictor = subject.fitted()
    loaded: Predictor[Any] = pickle.loads(pickle.dumps(predictor))
    hold(same(loaded.predict(UNSEEN), predictor.predict(UNSEEN)), "a pickled predictor predicts otherwise")


def several_threads_predict_the_same(subject: PredictorSubject) -> None:
    """Where ``thread_safe`` promises it, ``predict`` may run in several threads at once."""
    if not subject.plugin.thread_safe:
        raise DoesNotApply("thread_safe is False")
    predictor = subject.fitted()
    alone = predictor.predict(UNSEEN)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(predictor.predict, [UNSEEN] * 16))
    hold(all(same(alone, each) for each in together), "threads that predict at once disturb one another")


def importances_cover_every_component_and_target(subject: PredictorSubject) -> None:
    """A predictor that knows importances gives shape (L, 2, M), finite and at least 0."""
    importances = subject.fitted().importances()
    if importances is None:
        raise DoesNotApply("the predictor knows no importances")
    wanted = (len(SHAPE.dense.layers), 2, TARGETS.shape[1])
    hold(np.shape(importances) == wanted, f"importances have shape {np.shape(importances)}, not {wanted}")
    hold((np.isfinite(importances) & (importances >= 0)).all(), "an importance is negative or not finite")


def seen_pairs_are_ranked_better_than_by_chance(subject: PredictorSubject) -> None:
    """Of real measurements that it was fitted on, it ranks more pairs rightly than wrongly."""
    from scipy.stats import kendalltau

    recorded = recorded_pairs()
    predictor = subject.plugin(subject.validated(), recorded.shape, 0)
    predictor.fit(recorded.architectures, recorded.targets)
    mean = predictor.predict(recorded.architectures).mean
    taus = [kendalltau(*columns).statistic for columns in zip(mean.T, recorded.targets.T, strict=True)]
    hold(all(tau > 0 for tau in taus), f"Kendall tau of pairs that it has seen: {np.round(taus, 2).tolist()}")


def _predictions(subject: PredictorSubject) -> Prediction:
    return subject.fitted().predict(UNSEEN)


def _joined(predictions: Sequence[Prediction]) -> Prediction:
    means, stds = zip(*predictions, strict=True)
    return Prediction(np.concatenate(means), np.concatenate(stds))


def _close(left: Prediction, right: Prediction, how: str) -> None:
    for part, one, other in zip(("mean", "std"), left, right, strict=True):
        hold(np.allclose(one, other, rtol=1e-6, atol=1e-9), f"{part} differs if architectures are predicted {how}")


PREDICTORS = Suite(
    PredictorSubject,
    (
        *COMMON_LAWS,
        predictions_have_the_shape_of_the_targets,
        standard_deviations_are_not_negative,
        a_batch_is_predicted_like_one_by_one,
        predicting_twice_gives_the_same,
        the_same_seed_gives_the_same_predictions,
        another_process_predicts_the_same,
        a_second_fit_forgets_the_first,
        one_pair_is_enough,
        constant_targets_are_predicted,
        metrics_are_learnt_side_by_side,
        targets_that_are_not_finite_are_refused,
        inputs_are_left_alone,
        a_pickled_predictor_predicts_the_same,
        several_threads_predict_the_same,
        importances_cover_every_component_and_target,
        seen_pairs_are_ranked_better_than_by_chance,
    ),
)
"""All laws of predictors."""


class PredictorConformance(Conformance, suite=PREDICTORS):
    """Inherit from this, name your ``plugin``, and every law of predictors is a test of yours."""


def check_predictor(
    plugin: type[Predictor[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Try a predictor against every law; raises LawBroken, one line a law, if any is broken.

    Args:
        plugin: the class.
        options: the options it is tried with; small ones are quick.
        expected_failures: laws it is known to break, with the reason.
    """
    return PREDICTORS.check(plugin, options, expected_failures)
