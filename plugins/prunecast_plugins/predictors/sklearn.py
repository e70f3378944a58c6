"""Any regressor of scikit-learn, or of a library with its interface, by import path."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from prunecast.plugins import Architecture, Floats, PluginError, Prediction
from prunecast_plugins.named_classes import Importable, NamedClassOptions
from prunecast_plugins.predictors.bagging import Bag
from prunecast_plugins.predictors.regression import EncodedOptions, EncodedPredictor, Regression

REGRESSORS = Importable(
    "a scikit-learn regressor or kernel",
    ("sklearn.base:RegressorMixin", "sklearn.gaussian_process.kernels:Kernel"),
    ("sklearn", "lightgbm", "xgboost"),
)


class SklearnOptions(EncodedOptions, NamedClassOptions):
    """Options of the sklearn predictor; all others are parameters of the estimator.

    An estimator's parameter with the same name as one of these options keeps its default.
    """

    importable: ClassVar[Importable] = REGRESSORS
    naming: ClassVar[str] = "estimator"
    withheld: ClassVar[frozenset[str]] = frozenset({"random_state"})

    estimator: str = Field(
        description="import path of a regressor, such as sklearn.ensemble.ExtraTreesRegressor; its parameters are "
        "written beside it, objects among them as {class: PATH, ...}; random_state follows the seed of the spec"
    )
    members: int = Field(
        default=8,
        ge=1,
        description="number of estimators in the bootstrap bag, for estimators without a standard deviation",
    )

    def error_of_value(self, name: str, value: Any) -> str:
        """scikit-learn's error message for the value of one parameter; other libraries check values in ``fit``."""
        from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

        constraints = getattr(self.named_class, "_parameter_constraints", {})
        try:
            validate_parameter_constraints({name: constraints[name]}, {name: value}, self.named_class.__name__)
        except KeyError:
            return super().error_of_value(name, value)
        except InvalidParameterError as error:
            return str(error)
        return ""


class Sklearn(EncodedPredictor[SklearnOptions]):
    """One regressor by import path.

    The standard deviation is the regressor's own if ``predict`` has ``return_std`` (Gaussian processes, Bayesian
    ridge), the spread over trees for a forest (arXiv 1211.0906, section 4.3), and that of a bootstrap bag for any other
    regressor. A regressor that supports one target only is fitted once per target.
    """

    options_model = SklearnOptions

    def fit(self, architectures: Sequence[Architecture], targets: Floats) -> None:
        """Fit a fresh regressor. Errors that it raises become a one-line PluginError."""
        with self._plugin_errors():
            super().fit(architectures, targets)

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """Mean and standard deviation. Errors of the regressor, such as too few neighbours, become a PluginError."""
        with self._plugin_errors():
            return super().predict(architectures)

    def regression(self, directions: NDArray[np.int64]) -> Regression:
        """A regression with mean and standard deviation made from the named regressor.

        ``directions`` are ignored, because not every regressor takes monotonic constraints.
        """
        from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

        named = self.options.named_class
        if "return_std" in inspect.signature(named.predict).parameters:
            return _FittedOnce(self._member(self.seed), _own_deviation)
        if issubclass(named, ExtraTreesRegressor | RandomForestRegressor):
            return _FittedOnce(self._member(self.seed), _spread_of_trees)
        return Bag(self._member, self.options.members, self.seed)

    def _member(self, seed: int) -> "_EveryTarget":
        return _EveryTarget(self.options.instance(random_state=seed))

    @contextmanager
    def _plugin_errors(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError) as error:
            raise PluginError(f"{self.options.estimator}: {' '.join(str(error).split())}") from error


class _EveryTarget:
    """A regressor for any number of targets: the regressor itself if it supports them, else one copy per target.

    Attributes:
        parts: the fitted regressors, which together predict all targets in order.
    """

    def __init__(self, regressor: Any) -> None:
        self._regressor = regressor

    def fit(self, X: Floats, y: Floats) -> None:
        """Fit to features (N, F) and targets (N, M)."""
        from sklearn.base import clone
        from sklearn.utils import get_tags

        tags = get_tags(self._regressor).target_tags
        if tags.multi_output:
            column = tags.single_output and y.shape[1] == 1
            self.parts: Sequence[Any] = [self._regressor.fit(X, y[:, 0] if column else y)]
        else:
            self.parts = [clone(self._regressor).fit(X, column) for column in y.T]

    def predict(self, X: Floats) -> Floats:
        """Predictions (N, M) for features (N, F)."""
        return _side_by_side([part.predict(X) for part in self.parts])


class _FittedOnce:
    """A regressor fitted once on all pairs.

    Args:
        regressor: the regressor.
        moments: function from a fitted regressor and features to mean and standard deviation.
    """

    def __init__(self, regressor: _EveryTarget, moments: Callable[[Any, Floats], tuple[Floats, Floats]]) -> None:
        self._regressor, self._moments = regressor, moments

    def fit(self, features: Floats, targets: Floats) -> None:
        """Fit to features (N, F) and targets (N, M)."""
        self._regressor.fit(features, targets)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, both (N, M)."""
        mean, std = zip(*(self._moments(part, features) for part in self._regressor.parts), strict=True)
        return _side_by_side(mean), _side_by_side(std)


def _own_deviation(regressor: Any, features: Floats) -> tuple[Floats, Floats]:
    mean, std = regressor.predict(features, return_std=True)
    return mean, std


def _spread_of_trees(forest: Any, features: Floats) -> tuple[Floats, Floats]:
    votes = np.stack([tree.predict(features) for tree in forest.estimators_])
    return votes.mean(axis=0), votes.std(axis=0)


def _side_by_side(predicted: Sequence[Floats]) -> Floats:
    """Predictions of several regressors for N rows, each (N,) or (N, M'), as one array (N, M)."""
    return np.concatenate([np.asarray(each, dtype=np.float64).reshape(len(each), -1) for each in predicted], axis=1)
