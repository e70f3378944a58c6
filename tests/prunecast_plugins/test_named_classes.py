"""Classes named in a spec: the modules that may be imported, and their parameters."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunecast.plugins.host import PluginHost
from prunecast_plugins.named_classes import parameters_of
from prunecast_plugins.predictors.sklearn import REGRESSORS

HOSTILE = {
    "os.system": "may not be imported",
    "builtins.eval": "may not be imported",
    "subprocess.Popen": "may not be imported",
    "antigravity.fly": "may not be imported",
    "prunecast_plugins.predictors.gbdt.GBDT": "may not be imported",
    "numpy.memmap": "may not be imported",
    "sklearn": "is not an import path",
    "": "is not an import path",
    "sklearn.ensemble:ExtraTreesRegressor": "is not an import path",
    "sklearn.ensemble._forest.ExtraTreesRegressor": "is not an import path",
    "sklearn.ensemble.ExtraTreesRegressor.__init__": "is not an import path",
    "sklearn..ensemble.ExtraTreesRegressor": "is not an import path",
    "..os.system": "is not an import path",
    "sklearn.ensemble.ExtraTreesRegressor; import os": "is not an import path",
    "sklearn.utils.os.system": "cannot be imported",
    "sklearn.ensemble.ExtraTreesRegressor.fit": "cannot be imported",
    "sklearn.utils.Path": "does not exist",
    "sklearn.datasets.fetch_openml": "is not a scikit-learn regressor",
    "sklearn.linear_model.LogisticRegression": "is not a scikit-learn regressor",
    "sklearn.base.RegressorMixin": "is not a scikit-learn regressor",
    "sklearn.ensemble.BaseEnsemble": "is not a scikit-learn regressor",
}


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_names_are_refused_in_one_line(path: str) -> None:
    with pytest.raises(ValueError, match=HOSTILE[path]) as error:
        REGRESSORS.find(path)
    assert "\n" not in str(error.value)


def test_hostile_names_are_refused_inside_values_too() -> None:
    nested = {"k1": [{"class": "sklearn.gaussian_process.kernels.RBF"}, {"class": "os.system", "command": "true"}]}
    with pytest.raises(ValueError, match=r"'os\.system' may not be imported"):
        REGRESSORS.build(nested, {})


def test_a_module_that_is_not_allowed_is_never_imported(tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("print('sprung')\nfrom sklearn.linear_model import Ridge\n")
    code = """if True:
        from prunecast_plugins.predictors.sklearn import REGRESSORS
        try:
            REGRESSORS.find("trap.Ridge")
        except ValueError as error:
            print(error)
    """
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "sprung" not in done.stdout
    assert "'trap.Ridge' may not be imported" in done.stdout


OWN = """
from pathlib import Path
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge

class Mean(RegressorMixin, BaseEstimator):
    def __init__(self, shrink=0.0):
        self.shrink = shrink

    def fit(self, X, y):
        self.mean_ = (1 - self.shrink) * y.mean(axis=0)
        return self

    def predict(self, X):
        return [self.mean_] * len(X)
"""


def test_a_distribution_can_offer_its_package_for_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownstats.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="may not be imported"):
        REGRESSORS.find("ownstats.Mean")
    metadata = tmp_path / "ownstats-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ownstats\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[prunecast.importable]\nownstats = ownstats\n")
    found = REGRESSORS.find("ownstats.Mean")
    assert parameters_of(found) == {"shrink": 0.0}
    with pytest.raises(ValueError, match="is not a scikit-learn regressor"):
        REGRESSORS.find("ownstats.Path")


def test_parameters_of_a_class_with_kwargs_come_from_get_params() -> None:
    found = REGRESSORS.find("xgboost.XGBRegressor")
    assert {"n_estimators", "max_depth", "objective"} <= set(parameters_of(found))
    assert "kwargs" not in parameters_of(found)


# ------------------------------------------------------------------------------------------------- in a spec

SPEC = """\
model: {{source: smollm2-135m}}
space: layerwise
pruner: magnitude
evaluators: [{{use: perplexity, dataset: wikitext2}}]
searcher: {searcher}
predictor: {predictor}
"""


def problems(predictor: str = "gbdt", searcher: str = "random") -> list[str]:
    """Problems of a spec, without the file they are in."""
    from prunecast.errors import SpecError
    from prunecast.spec.load import parse_spec

    with pytest.raises(SpecError) as error:
        parse_spec(SPEC.format(predictor=predictor, searcher=searcher), PluginHost.discover())
    return [problem.removeprefix("spec:") for problem in error.value.problems]


TREES = "{use: sklearn, estimator: sklearn.ensemble.ExtraTreesRegressor"


@pytest.mark.parametrize(
    ("predictor", "problem"),
    [
        (
            f"{TREES}, max_dept: 3}}",
            "6:76: predictor.max_dept: unknown option 'max_dept' (did you mean 'max_depth'?); ExtraTreesRegressor "
            "takes: ",
        ),
        (
            f"{TREES}, n_estimators: many}}",
            "6:90: predictor.n_estimators: The 'n_estimators' parameter of ExtraTreesRegressor must be an int in the "
            "range [1, inf). Got 'many' instead.",
        ),
        (f"{TREES}, random_state: 3}}", "6:76: predictor.random_state: unknown option 'random_state'"),
        (f"{TREES}, members: 0}}", "6:85: predictor.members: must be at least 1, got 0"),
        (
            "{use: sklearn, estimator: sklearn.ensemble.ExtraTreeRegressor, n_estimators: 3}",
            "6:38: predictor.estimator: 'sklearn.ensemble.ExtraTreeRegressor' does not exist (did you mean "
            "'ExtraTreesRegressor'?)",
        ),
        (
            "{use: sklearn, estimator: os.system, command: reboot}",
            "6:38: predictor.estimator: 'os.system' may not be imported: a scikit-learn regressor or kernel comes from "
            "lightgbm, sklearn, xgboost, or from a distribution that offers its package in the entry-point group "
            "prunecast.importable",
        ),
        (
            "{use: sklearn, estimator: sklearn.ensemble.StackingRegressor}",
            "6:12: predictor.estimators: required, but missing",
        ),
        (
            "{use: sklearn, estimator: sklearn.gaussian_process.GaussianProcessRegressor, "
            "kernel: {class: sklearn.gaussian_process.kernels.RBF, length: 2}}",
            "6:97: predictor.kernel: unknown option 'length' (did you mean 'length_scale'?); RBF takes: length_scale, "
            "length_scale_bounds",
        ),
    ],
)
def test_estimator_parameters_are_checked_with_line_and_column(predictor: str, problem: str) -> None:
    [found] = problems(predictor=predictor)
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("searcher", "problem"),
    [
        (
            "{use: optuna, sampler: CmaEsSampler, popsise: 3}",
            "5:48: searcher.popsise: unknown option 'popsise' (did you mean 'popsize'?); CmaEsSampler takes: ",
        ),
        (
            "{use: optuna, sampler: CmaEsSampler, popsize: many}",
            "5:57: searcher.popsize: CmaEsSampler: Input should be a valid integer",
        ),
        ("{use: optuna, sampler: CmaEsSampler, seed: 3}", "5:48: searcher.seed: unknown option 'seed'"),
        (
            "{use: optuna, sampler: CmaSampler}",
            "5:34: searcher.sampler: 'optuna.samplers.CmaSampler' does not exist (did you mean 'CmaEsSampler'?)",
        ),
        (
            "{use: optuna, sampler: shutil.rmtree}",
            "5:34: searcher.sampler: 'shutil.rmtree' may not be imported: an Optuna sampler comes from optuna, "
            "optuna_integration, or",
        ),
        (
            "{use: optuna, sampler: QMCSampler, independent_sampler: {class: os.system, command: reboot}}",
            "5:67: searcher.independent_sampler: 'os.system' may not be imported",
        ),
        (
            "{use: optuna, sampler: samplers/auto_sampler}",
            "5:34: searcher.sampler: 'samplers/auto_sampler' is code from OptunaHub: read it, then set "
            "trust_remote_code: true",
        ),
        (
            "{use: optuna, sampler: samplers/../../evil, trust_remote_code: true}",
            "5:34: searcher.sampler: 'samplers/../../evil' is not a sampler package of OptunaHub: write samplers/NAME",
        ),
        ("{use: optuna, sampler: GridSampler}", "5:11: searcher.search_space: required, but missing"),
    ],
)
def test_samplers_and_their_parameters_are_checked_with_line_and_column(searcher: str, problem: str) -> None:
    [found] = problems(searcher=searcher)
    assert found.startswith(problem)


def test_parameters_are_part_of_the_key_of_a_spec() -> None:
    from prunecast.spec.load import parse_spec

    def key(**predictor: Any) -> str:
        text = SPEC.format(
            searcher="random", predictor="{" + ", ".join(f"{k}: {v}" for k, v in predictor.items()) + "}"
        )
        spec = parse_spec(text, PluginHost.discover())
        assert parse_spec(spec.to_json(), PluginHost.discover()).key == spec.key
        return spec.key

    trees = {"use": "sklearn", "estimator": "sklearn.ensemble.ExtraTreesRegressor"}
    keys = {key(**trees), key(**trees, n_estimators=30), key(**trees, n_estimators=40), key(**trees, members=4)}
    assert len(keys) == 4
    assert key(**trees, n_estimators=30, max_depth=3) == key(**trees, max_depth=3, n_estimators=30)
