"""Plugins that misbehave: the error names their distribution, the run stops, and nothing invalid is stored."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_device import pretended_device
from workplace import Workplace

from prunecast.architecture.architecture import Architecture, LayerImportance
from prunecast.architecture.choices import Choice
from prunecast.errors import BudgetError, EvaluationError, PluginError
from prunecast.plugins.examples.predictor import Ridge, RidgeOptions
from prunecast.plugins.examples.pruner import Norms, NormsOptions
from prunecast.plugins.examples.searcher import Climb, ClimbOptions
from prunecast.plugins.examples.space import Steps, StepsOptions
from prunecast.plugins.guard import check_metrics, checked_measurements, instance, predictor_by_default
from prunecast.plugins.hookspecs import Entry
from prunecast.plugins.host import PluginHost, Registered
from prunecast.plugins.interfaces import CalibrationOptions, Measurement, Metric, PluginOptions, Prediction
from prunecast.plugins.local import Origin
from prunecast.testing import KnownOptimum, tiny_model
from prunecast.testing.landscape import SHAPE, pairs
from prunecast.testing.models import family_of

SEEN, TARGETS = pairs(12, seed=0)
LAYERS = len(SHAPE.dense.layers)


def guarded(kind: str, plugin: type, options: Any, *arguments: Any, **methods: Any) -> Any:
    """A guarded instance of a class derived from ``plugin``, with other methods."""
    misbehaving = type("Misbehaving", (plugin,), methods)
    globals()["Misbehaving"] = misbehaving
    registered = Registered(kind, Entry("bad", f"{__name__}:Misbehaving", "misbehaves"), Origin("acme-bad", "0.3"))
    return instance(registered, options, *arguments)


def predictor(**methods: Any) -> Any:
    return guarded("predictor", Ridge, RidgeOptions(), SHAPE, 0, **methods)


def predicting(answer: Callable[[int], Any]) -> Any:
    found = predictor(predict=lambda self, architectures: answer(len(architectures)))
    found.fit(SEEN, TARGETS)
    return found


def exits(*arguments: Any) -> None:
    sys.exit(3)


def spins(*arguments: Any) -> None:
    while True:
        time.sleep(0)


OWNER = "predictor 'bad' of acme-bad 0.3 "

UNDETACHED = "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda n: Prediction(np.zeros((n, 1)), np.zeros((n, 1))), "predicted a mean of shape (12, 1), not (12, 3)"),
        (lambda n: Prediction(np.zeros((n, 3)), np.zeros(3)), "predicted a std of shape (3,), not (12, 3)"),
        (lambda n: Prediction(np.full((n, 3), np.nan), np.zeros((n, 3))), "predicted a mean that is not finite"),
        (lambda n: Prediction(np.zeros((n, 3)), np.full((n, 3), -1.0)), "predicted a negative standard deviation"),
        (lambda n: np.zeros((n, 3)), "predicted something other than a pair of mean and std"),
        (lambda n: n / 0, "failed in predict: ZeroDivisionError: division by zero"),
        (lambda n: (torch.zeros((n, 3), requires_grad=True),) * 2, "failed in predict: RuntimeError: " + UNDETACHED),
        (exits, "failed in predict: SystemExit: 3"),
    ],
)
def test_invalid_predictions_are_errors_that_name_the_distribution(
    answer: Callable[[int], Any], complaint: str
) -> None:
    with pytest.raises(PluginError) as error:
        predicting(answer).predict(SEEN)
    assert str(error.value) == OWNER + complaint


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (np.zeros((LAYERS, 2)), f"gave importances of shape ({LAYERS}, 2), not ({LAYERS}, 2, 3)"),
        (np.full((LAYERS, 2, 3), np.nan), "gave an importance that is negative or not finite"),
        (np.full((LAYERS, 2, 3), -1.0), "gave an importance that is negative or not finite"),
    ],
)
def test_invalid_importances_are_errors_that_name_the_distribution(answer: Any, complaint: str) -> None:
    found = predictor(importances=lambda self: answer)
    found.fit(SEEN, TARGETS)
    with pytest.raises(PluginError) as error:
        found.importances()
    assert str(error.value) == OWNER + complaint


def test_a_predictor_with_required_options_is_not_created_without_them() -> None:
    with pytest.raises(PluginError, match=r"^predictor 'sklearn' of prunecast \S+ has an option without a default: "):
        predictor_by_default(PluginHost.discover(), "sklearn")


def test_the_guard_does_not_change_a_valid_plugin() -> None:
    found, plain = predictor(), Ridge(RidgeOptions(), SHAPE, 0)
    for each in (found, plain):
        each.fit(SEEN, TARGETS)
    assert (found.predict(SEEN).mean == plain.predict(SEEN).mean).all()
    assert (found.options, found.seed, found.version, found.importances()) == (plain.options, 0, 1, None)
    assert not hasattr(found, "no_such_thing")


def test_a_plugin_that_hangs_is_stopped_even_inside_another_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNECAST_PLUGIN_SECONDS", "0.3")
    slow = predicting(spins)
    problem = KnownOptimum().problem()
    searcher = guarded("searcher", Climb, ClimbOptions(), search=lambda self, problem, count: slow.predict(SEEN))
    start = time.monotonic()
    with pytest.raises(PluginError, match=r"^searcher 'bad' of acme-bad 0\.3 did not return from search within 0\.3 s"):
        searcher.search(problem, 3)
    with pytest.raises(PluginError, match="did not return from predict within"):
        slow.predict(SEEN)
    assert time.monotonic() - start < 30


def test_the_time_limit_holds_for_plugins_that_catch_every_exception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import signal

    before = signal.getitimer(signal.ITIMER_REAL)[0]
    monkeypatch.setenv("PRUNECAST_PLUGIN_SECONDS", "0.2")

    def swallows(*arguments: Any) -> None:
        while True:
            try:
                spins()
            except Exception:  # noqa: BLE001  the behaviour under test
                continue

    with pytest.raises(PluginError, match="did not return from predict"):
        predicting(swallows).predict(SEEN)
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (before > 0)


def test_printed_output_goes_to_stderr_after_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    found = predictor(fit=lambda self, architectures, targets: print("epoch 1\nepoch 2"))
    found.fit(SEEN, TARGETS)
    printed = capsys.readouterr()
    assert printed.out == ""
    note = f"warning: {OWNER}prints to stdout, which is reserved for data; its output follows:"
    assert printed.err == f"{note}\nepoch 1\nepoch 2\n"


def test_errors_of_prunecast_pass_unchanged() -> None:
    def refuses(*arguments: Any) -> None:
        raise BudgetError("raise the budget")

    with pytest.raises(BudgetError, match=r"^raise the budget$"):
        guarded("searcher", Climb, ClimbOptions(), search=refuses).search(KnownOptimum().problem(), 3)


@pytest.mark.parametrize(
    ("proposals", "complaint"),
    [
        ([SHAPE.dense], "which is over the budget"),
        ([Architecture([(1, 1, 8)] * 6)] * 2, "proposed an architecture twice"),
        ([Architecture([(1, 1, 8)] * 5)], "not of this model"),
        ([Architecture([(9, 1, 8)] * 6)], "not of this model"),
        (["3x3+96"], "which is not an architecture"),
        ([Architecture([(1, 1, w)] * 6) for w in range(9)], "proposed 9 architectures, at most 3 were wanted"),
        ((), "proposed a tuple, not a list"),
    ],
)
def test_invalid_proposals_are_errors_that_name_the_distribution(proposals: Any, complaint: str) -> None:
    searcher = guarded("searcher", Climb, ClimbOptions(), search=lambda self, problem, count: proposals)
    with pytest.raises(PluginError, match=r"^searcher 'bad' of acme-bad 0\.3 proposed ") as error:
        searcher.search(KnownOptimum().problem(), 3)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("sample", "complaint"),
    [
        (lambda self, count, rng: rng.random((count, 8)), "of type float64, not int64"),
        (lambda self, count, rng: np.zeros((count, 3), dtype=np.int64), "sampled shape (5, 3), not (5, 8)"),
        (lambda self, count, rng: np.full((count, 8), 99), "a position that a choice does not have"),
        (lambda self, count, rng: [[0] * 8] * count, "sampled a list, not an array"),
    ],
)
def test_invalid_samples_are_errors_that_name_the_distribution(sample: Any, complaint: str) -> None:
    space = guarded("space", Steps, StepsOptions(), SHAPE, sample=sample)
    with pytest.raises(PluginError, match=r"^space 'bad' of acme-bad 0\.3 ") as error:
        space.sample(5, np.random.default_rng(0))
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ((), "has no choices"),
        (("mlp",), "has no choices"),
        ((Choice("mlp", (0,), ((1,), (200,))),), "gives mlp.0 values that the model does not have"),
        ((Choice("attention", (0,), ((3,),)),), "gives attention.0 values that the model does not have"),
        ((Choice("mlp", (9,), ((1,),)),), "has a choice mlp.9 of a layer that the model does not have"),
        ((Choice("mlp", (0, 1), ((1,),)), Choice("mlp", (1,), ((1,),))), "covers mlp.1 twice"),
        ((Choice("mlp", (0,), ()),), "gives mlp.0 no values"),
        ((Choice("mlp", (0,), (8, 16)),), "gives mlp.0 values that are not tuples of Python integers"),
        ((Choice("mlp", (0,), ((np.int64(8),),)),), "gives mlp.0 values that are not tuples of Python integers"),
        ((Choice("mlp", (0,), ((16,), (8,))),), "gives mlp.0 values that do not ascend by size, each once"),
        ((Choice("mlp", (0,), ((8,), (8,))),), "gives mlp.0 values that do not ascend by size, each once"),
        ((Choice("mlp", 0, ((8,),)),), "failed in choices: TypeError: 'int' object is not iterable"),
    ],
)
def test_invalid_choices_are_refused_before_measuring(choices: Any, complaint: str) -> None:
    with pytest.raises(PluginError) as error:
        guarded("space", Steps, StepsOptions(), SHAPE, choices=choices)
    assert str(error.value) == f"space 'bad' of acme-bad 0.3 {complaint}"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ((8,), "gives mlp.1 values that are not tuples of Python integers"),
        (((SHAPE.dense.layers[1].mlp_width + 1,),), "gives mlp.1 values that the model does not have"),
        (None, "failed in values_at: TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_invalid_refinement_values_are_refused(values: Any, complaint: str) -> None:
    space = guarded("space", Steps, StepsOptions(), SHAPE, values_at=lambda self, choice, rate: values)
    mlp = next(choice for choice in space.choices if choice.component == "mlp")
    with pytest.raises(PluginError) as error:
        space.values_at(mlp, 0.5)
    assert str(error.value) == f"space 'bad' of acme-bad 0.3 {complaint}"


def scores(groups: int = 4, value: float = 1.0) -> list[LayerImportance]:
    return [LayerImportance(np.full(groups, value), np.ones((4, 2)), np.ones(24)) for _ in range(3)]


def zeroes_a_weight(self: Any, model: Any, family: Any, tokens: Any) -> Any:
    next(model.parameters()).data[0] = 0
    return scores()


@pytest.mark.parametrize(
    ("rank", "complaint"),
    [
        (lambda *arguments: scores(groups=3), "gave layer 0 kv_groups of shape (3,), not (4,)"),
        (lambda *arguments: scores(value=np.nan), "gave layer 0 kv_groups that are not finite"),
        (lambda *arguments: scores()[:2], "ranked 2 layers, the model has 3"),
        (zeroes_a_weight, "changed the weights of the model while it ranked them"),
        (lambda *arguments: None, "failed in rank: TypeError: object of type 'NoneType' has no len()"),
    ],
)
def test_invalid_rankings_are_refused(rank: Any, complaint: str) -> None:
    model = tiny_model()
    pruner = guarded("pruner", Norms, NormsOptions(), rank=rank)
    with pytest.raises(PluginError) as error:
        pruner.rank(model, family_of(model.config), None)
    assert str(error.value) == f"pruner 'bad' of acme-bad 0.3 {complaint}"


@pytest.mark.parametrize(
    ("calibration", "complaint"),
    [
        (CalibrationOptions(), "has a calibration that is not a tuple of CalibrationOptions"),
        (
            (CalibrationOptions(tokens=64), CalibrationOptions(tokens=32)),
            "wants calibration texts of different lengths: [32, 64] tokens",
        ),
    ],
)
def test_an_invalid_calibration_is_refused(calibration: Any, complaint: str) -> None:
    with pytest.raises(PluginError) as error:
        _ = guarded("pruner", Norms, NormsOptions(), calibration=calibration).calibration
    assert str(error.value) == f"pruner 'bad' of acme-bad 0.3 {complaint}"


def test_pruner_options_must_derive_from_pruner_options() -> None:
    with pytest.raises(PluginError) as error:
        guarded("pruner", Norms, PluginOptions())
    complaint = "has options that do not derive from prunecast.plugins.PrunerOptions: use it as their base class"
    assert str(error.value) == f"pruner 'bad' of acme-bad 0.3 {complaint}"


def test_weights_are_checked_on_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_device(monkeypatch) as device:
        model = tiny_model().to(device)
        ranked = guarded("pruner", Norms, NormsOptions()).rank(model, family_of(model.config), None)
    assert len(ranked) == len(model.model.layers)


@pytest.mark.parametrize(
    ("value", "error", "count", "complaint"),
    [
        (float("inf"), None, 1, "x.y.z is inf, not a finite number"),
        (1.0, -1.0, 1, "the standard error of x.y.z is -1.0, not a finite number of at least 0"),
        (1.0, None, -2, "the count of x.y.z is -2, not at least 0"),
    ],
)
def test_invalid_measurements_are_refused(value: float, error: Any, count: int, complaint: str) -> None:
    metric = Metric("x.y.z", "minimize", "things")
    with pytest.raises(EvaluationError, match=f"^owner: {complaint}"):
        checked_measurements("owner", [Measurement(metric, value, error, count)], [metric])


def test_a_metric_of_scale_log_must_be_above_zero() -> None:
    metric = Metric("x.y.z", "minimize", "things", "log")
    with pytest.raises(EvaluationError, match=r"^owner: x\.y\.z is 0\.0, not above 0, which its scale log requires$"):
        checked_measurements("owner", [Measurement(metric, 0.0, None, 1)], [metric])


@pytest.mark.parametrize("value", [np.float32(0.5), torch.tensor(0.5)])
def test_measured_values_become_json_serialisable(value: Any) -> None:
    metric = Metric("x.y.z", "minimize", "things")
    [found] = checked_measurements("owner", [Measurement(metric, value, None, 1)], [metric])
    assert json.dumps(found.value) == "0.5"


@pytest.mark.parametrize(
    ("metrics", "complaint"),
    [
        (None, " has metrics that are not a non-empty tuple of Metric"),
        ((), " has metrics that are not a non-empty tuple of Metric"),
        ((Metric("x.y.z", "max", "things"),), ": the direction of x.y.z is 'max': write minimize or maximize"),  # type: ignore[arg-type]
        (
            (Metric("x.y.z", "maximize", "things", "logarithmic"),),  # type: ignore[arg-type]
            ": the scale of x.y.z is 'logarithmic': write linear or log",
        ),
    ],
)
def test_invalid_metrics_are_refused_before_measuring(metrics: Any, complaint: str) -> None:
    with pytest.raises(PluginError) as error:
        check_metrics("owner", metrics)
    assert str(error.value) == f"owner{complaint}"


# ------------------------------------------------------------------------------------------------ a whole run

UNREADY = '''
from prunecast.plugins.examples.evaluator import Guesses
from prunecast.plugins.hookspecs import Entry, hookimpl


class Unready(Guesses):
    """Has its data under another name."""

    @property
    def ATTRIBUTE(self):
        return self.text


@hookimpl
def prunecast_evaluators():
    return [Entry("unready", f"{__name__}:Unready", "Has its data under another name")]
'''


@pytest.mark.parametrize("attribute", ["metrics", "data_hash", "tokens"])
def test_a_missing_evaluator_attribute_is_a_one_line_error(attribute: str, workplace: Workplace) -> None:
    (workplace.folder / "unready.py").write_text(UNREADY.replace("ATTRIBUTE", attribute))
    evaluator = {"use": "unready", "dataset": "validation.txt", "windows": 2, "context": 64}
    workplace.write_spec("tiny", {"plugins": ["unready.py"], "evaluators": [evaluator], "export": None})
    outcome = workplace.prunecast("run", "tiny.yaml", "--dry-run", "--quiet")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("error: evaluator 'unready' of unready.py ")
    reason = f" failed in {attribute}: AttributeError: 'Unready' object has no attribute 'text'\n"
    assert outcome.stderr.endswith(reason)


GREEDY = '''
from prunecast.plugins.hookspecs import Entry, hookimpl
from prunecast.plugins.interfaces import PluginOptions, Searcher


class Greedy(Searcher[PluginOptions]):
    """Keeps everything."""

    options_model = PluginOptions
    evaluations = 1

    def search(self, problem, count):
        return [problem.space.shape.dense]


@hookimpl
def prunecast_searchers():
    return [Entry("greedy", f"{__name__}:Greedy", "Keeps everything")]
'''


def test_a_searcher_over_budget_fails_the_run_and_keeps_its_evaluations(
    workplace: Workplace,
) -> None:
    (workplace.folder / "greedy.py").write_text(GREEDY)
    workplace.write_spec("tiny", {"plugins": ["greedy.py"], "searcher": "greedy", "export": None})
    outcome = workplace.prunecast("run", "tiny.yaml", "--quiet")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("error: searcher 'greedy' of greedy.py ")
    assert outcome.stderr.endswith(", which is over the budget\n")
    assert workplace.sql("SELECT status FROM runs") == [("failed",)]
    assert workplace.sql("SELECT count(*) > 12 FROM evaluations") == [(1,)]


RANKS = '''
from prunecast.plugins.examples.pruner import Norms
from prunecast.plugins.hookspecs import Entry, hookimpl


class Own(Norms):
    """As the example does."""


@hookimpl
def prunecast_pruners():
    return [Entry("own", f"{__name__}:Own", "As the example does")]
'''


def pruner_key(workplace: Workplace, folder: str) -> tuple[str, str]:
    """Registry key and owner of the local pruner, found through ``plugins:`` of a spec in ``folder``."""
    from contextlib import chdir

    from prunecast.measure.setup import Setup
    from prunecast.plugins.host import PluginHost
    from prunecast.spec.load import load_spec

    workplace.write_spec("own", {"plugins": [folder], "pruner": "own", "export": None})
    host = PluginHost.discover()
    with chdir(workplace.folder):
        record = Setup(load_spec(Path("own.yaml"), host), host).pruner_record
    return record.key, record.distribution


def test_the_code_of_a_local_plugin_is_part_of_its_registry_key(workplace: Workplace) -> None:
    local = workplace.folder / "local"
    local.mkdir()
    (local / "own.py").write_text(RANKS)
    (local / "_shared.py").write_text("SCALE = 1\n")
    first = pruner_key(workplace, "local")
    assert first == pruner_key(workplace, "local")
    assert first[1].startswith("local/own.py ")
    (local / "_shared.py").write_text("SCALE = 2\n")
    second = pruner_key(workplace, "local")
    assert second[0] != first[0]
    assert second[1] != first[1]
