"""Quality of predictors on the recorded pairs of SmolLM2-135M, for the table in docs/guides/plugins.md; a script."""

from typing import Any

import numpy as np
from scipy.stats import kendalltau
from sklearn.metrics import r2_score

from prunecast.plugins import Predictor
from prunecast.testing import recorded_pairs
from prunecast_plugins.predictors.gbdt import GBDT, GBDTOptions
from prunecast_plugins.predictors.sklearn import Sklearn, SklearnOptions

SPLITS = 5
HELD_OUT = 0.3
KERNELS = "sklearn.gaussian_process.kernels"
MATERN = {
    "class": f"{KERNELS}.Sum",
    "k1": {"class": f"{KERNELS}.Matern", "length_scale": 3.0, "nu": 2.5},
    "k2": {"class": f"{KERNELS}.WhiteKernel"},
}
REGRESSORS: tuple[dict[str, Any], ...] = (
    {"estimator": "sklearn.ensemble.ExtraTreesRegressor", "n_estimators": 300},
    {"estimator": "sklearn.linear_model.BayesianRidge"},
    {"estimator": "sklearn.gaussian_process.GaussianProcessRegressor", "kernel": MATERN},
)


def evaluate(plugin: type[Predictor[Any]], options: Any) -> tuple[float, float, float]:
    """R2 and Kendall tau of the summed targets, and RMSE in predicted standard deviations; means over splits."""
    recorded, scores = recorded_pairs(), []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(recorded.architectures))
        unseen, seen = np.split(order, [round(HELD_OUT * len(order))])
        predictor = plugin(options, recorded.shape, seed)
        predictor.fit([recorded.architectures[i] for i in seen], recorded.targets[seen])
        mean, std = predictor.predict([recorded.architectures[i] for i in unseen])
        wanted = recorded.targets[unseen]
        total, predicted = wanted.sum(axis=1), mean.sum(axis=1)
        off = np.sqrt((((mean - wanted) / std) ** 2).mean())
        scores.append((r2_score(total, predicted), kendalltau(total, predicted).statistic, off))
    r2, tau, off = np.mean(scores, axis=0)
    return float(r2), float(tau), float(off)


def main() -> None:
    """Print one line per predictor."""
    for options in REGRESSORS:
        r2, tau, off = evaluate(Sklearn, SklearnOptions(**options))
        print(f"{options['estimator']:56} R2 {r2:.3f}  tau {tau:.3f}  off {off:.2f}", flush=True)
    r2, tau, off = evaluate(GBDT, GBDTOptions())
    print(f"{'gbdt':56} R2 {r2:.3f}  tau {tau:.3f}  off {off:.2f}")


if __name__ == "__main__":
    main()
