"""The quality card, compared with scikit-learn and with predictors of known quality."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from workplace import SMOLLM2

from prunecast.architecture.architecture import Architecture, Floats
from prunecast.plugins.interfaces import Metric, PluginOptions, Prediction, Predictor
from prunecast.predict.quality import QualityCard, evaluate_predictor
from prunecast.problem.measured import Measured
from prunecast.problem.objective import Objective

METRICS = (
    Metric("text.validation.ppl", "minimize", "perplexity", "log"),
    Metric("questions.test.acc", "maximize", "fraction"),
)
OBJECTIVE = Objective(METRICS, (1.0, 2.0))


def kept(architectures: Sequence[Architecture]) -> Floats:
    return np.array([sum(layer.mlp_width for layer in a.layers) / 30 / 1536 for a in architectures])


def measured(architecture: Architecture) -> dict[str, float]:
    share = kept([architecture])[0]
    return {"text.validation.ppl": float(np.exp(5 - 2 * share)), "questions.test.acc": float(share**2)}


class Noisy(Predictor[PluginOptions]):
    """Predictor of the true value plus noise, with the true standard deviation of the noise."""

    error = 0.0
    fits: list[int]

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        self.fits.append(len(architectures))

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        truth = OBJECTIVE.targets([measured(a) for a in architectures])
        rng = np.random.default_rng(len(self.fits))
        return Prediction(truth + rng.normal(0, self.error, truth.shape), np.full(truth.shape, self.error))


class Inverted(Noisy):
    """Predictor of the inverted ranking with zero standard deviation."""

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(-mean, std)


def random_widths(count: int) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [Architecture([(3, 3, int(w)) for w in rng.integers(1, 1537, 30)]) for _ in range(count)]


def card(kind: type[Noisy], error: float = 0.0, count: int = 100, curve: Sequence[int] = ()) -> QualityCard:
    architectures = random_widths(count)

    def new_predictor() -> Noisy:
        made = kind(PluginOptions(), SMOLLM2, 3)
        made.error, made.fits = error, fits
        return made

    fits.clear()
    rng = np.random.default_rng(1)
    pairs = Measured(OBJECTIVE, {a: measured(a) for a in architectures})
    found = evaluate_predictor("noisy", new_predictor, pairs, rng, curve)
    assert found is not None
    return found


fits: list[int] = []


def test_an_oracle_scores_best_and_its_inverse_worst() -> None:
    perfect, inverted = card(Noisy), card(Inverted)
    for scores in (*perfect.metrics.values(), perfect.objective, perfect.overall):
        assert (scores.r2, scores.kendall_tau, scores.spearman_rho) == pytest.approx((1, 1, 1))
        assert (scores.mse, scores.regret, scores.coverage_68) == pytest.approx((0, 0, 1))
    for scores in (*inverted.metrics.values(), inverted.objective):
        assert (scores.kendall_tau, scores.spearman_rho) == pytest.approx((-1, -1))
        assert scores.regret > 0
        assert scores.r2 < 0
        assert scores.coverage_95 == 0


def test_intervals_of_a_calibrated_predictor_have_nominal_coverage() -> None:
    scores = card(Noisy, error=0.05, count=400).metrics["text.validation.ppl"]
    assert scores.coverage_68 == pytest.approx(0.683, abs=0.06)
    assert scores.coverage_95 == pytest.approx(0.95, abs=0.03)
    assert scores.calibration_error < 0.05


def test_scores_are_those_of_scikit_learn_and_scipy_on_the_same_splits() -> None:
    found = card(Noisy, error=0.05).metrics["questions.test.acc"]
    architectures = random_widths(100)
    truth = OBJECTIVE.targets([measured(a) for a in architectures])
    standard = truth[:, 1] / truth[:, 1].std()
    splits, wanted = np.random.default_rng(1), []
    for fit in range(1, 11):
        unseen = splits.permutation(100)[:30]
        noise = np.random.default_rng(fit).normal(0, 0.05, (30, 2))[:, 1]
        pair = standard[unseen], standard[unseen] + noise / truth[:, 1].std()
        scores = [score(*pair) for score in (r2_score, mean_squared_error, mean_absolute_error)]
        wanted.append([*scores, kendalltau(*pair).statistic, spearmanr(*pair).statistic])
    measured_scores = (found.r2, found.mse, found.mae, found.kendall_tau, found.spearman_rho)
    assert measured_scores == pytest.approx(np.mean(wanted, axis=0))


def test_overall_is_the_mean_over_metrics_and_json_round_trips() -> None:
    found = card(Noisy, error=0.05, curve=(25, 50))
    assert found.overall.rmse == pytest.approx(np.mean([scores.rmse for scores in found.metrics.values()]))
    assert QualityCard.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_learning_curve_uses_the_requested_pairs_and_ends_at_the_training_set() -> None:
    found = card(Noisy, count=100, curve=(25, 50, 200))
    assert [point.pairs for point in found.learning_curve] == [25, 50, 70]
    assert sorted(set(fits)) == [25, 50, 70]
    assert len(fits) == 3 * found.splits


def test_too_few_pairs_give_no_card() -> None:
    rng = np.random.default_rng(0)
    pairs = {
        Architecture([(3, 3, 5 + i)] * 30): {"text.validation.ppl": 2.0, "questions.test.acc": 0.5} for i in range(5)
    }
    new_predictor = lambda: Noisy(PluginOptions(), SMOLLM2, 0)  # noqa: E731
    assert evaluate_predictor("noisy", new_predictor, Measured(OBJECTIVE, pairs), rng) is None
