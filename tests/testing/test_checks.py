"""Each plugin here fails one check of the conformance suite, and that check reports it."""

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from pydantic import ConfigDict

from prunecast.errors import PluginError
from prunecast.models.loss import Loss
from prunecast.plugins.examples.evaluator import Guesses
from prunecast.plugins.examples.predictor import Ridge
from prunecast.plugins.examples.pruner import Norms
from prunecast.plugins.examples.searcher import Climb
from prunecast.plugins.examples.space import Steps
from prunecast.plugins.interfaces import CalibrationOptions, Measurement, Metric, PluginOptions, Prediction
from prunecast.testing import SUITES, CheckFailed, KnownOptimum, Suite, check_predictor
from prunecast.testing.checks import verdict_on
from prunecast_plugins.evaluators.perplexity import Perplexity
from prunecast_plugins.evaluators.windows import WindowOptions


class Loose(PluginOptions):
    """Options that accept unknown keys and can be assigned to."""

    model_config = ConfigDict(extra="allow", frozen=False)
    penalty: float = 0.1


class LooseRidge(Ridge):
    """Accepts any option."""

    options_model = Loose


class Flat(Ridge):
    """Drops the target axis of its predictions."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean[:, 0], std[:, 0])


class Negative(Ridge):
    """Predicts negative standard deviations."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean, -std - 1)


class Centring(Ridge):
    """Predictions depend on the whole batch."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean - mean.mean(axis=0), std)


class Noisy(Ridge):
    """Draws from the global generator."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean + np.random.normal(size=mean.shape), std)  # noqa: NPY002


class Loud(Ridge):
    """Prints to stdout."""

    def fit(self, architectures: Any, targets: Any) -> None:
        print("fitting")
        super().fit(architectures, targets)


class Swallowing(Ridge):
    """Accepts targets that are not finite."""

    def fit(self, architectures: Any, targets: Any) -> None:
        super().fit(architectures, np.nan_to_num(targets))


class Scaling(Ridge):
    """Scales the targets in place."""

    def fit(self, architectures: Any, targets: Any) -> None:
        targets /= 2
        super().fit(architectures, targets)


class Backwards(Ridge):
    """Returns the targets in reverse order."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean[:, ::-1], std)


class Closed(Ridge):
    """Has an attribute that cannot be pickled."""

    def fit(self, architectures: Any, targets: Any) -> None:
        super().fit(architectures, targets)
        self._closed = lambda: None


class Greedy(Climb):
    """Ignores the budget."""

    def search(self, problem: Any, count: int) -> Any:
        return [problem.space.shape.dense]


class Repeating(Climb):
    """Proposes the best architecture several times."""

    def search(self, problem: Any, count: int) -> Any:
        return super().search(problem, 1) * count


class Reversed(Climb):
    """Returns the worst proposal first."""

    def search(self, problem: Any, count: int) -> Any:
        return super().search(problem, count)[::-1]


class Silent(Climb):
    """Never calls progress."""

    def _scored(self, problem: Any, indices: Any) -> Any:
        object.__setattr__(problem, "progress", lambda scored: None)
        return super()._scored(problem, indices)


class Remembering(Climb):
    """Keeps proposals of earlier searches."""

    def search(self, problem: Any, count: int) -> Any:
        self._seen = [*getattr(self, "_seen", []), *super().search(problem, count)]
        return self._seen[:count]


class Twice(Steps):
    """Has every choice twice."""

    @property
    def choices(self) -> Any:
        return Steps.choices.func(self) * 2  # type: ignore[attr-defined]


class Stuck(Steps):
    """Ignores the generator."""

    def sample(self, count: int, rng: Any) -> Any:
        return super().sample(count, np.random.default_rng(0))


class Uneven(Norms):
    """Ranks all layers but the last."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        return super().rank(model, family, tokens)[:-1]


class Uncompensated(Norms):
    """Has options without compensation."""

    options_model = PluginOptions


class Vandal(Norms):
    """Scales the weights of the model."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        for parameter in model.parameters():
            parameter.data.mul_(2)
        return super().rank(model, family, tokens)


class Listener(Norms):
    """Does not remove its hook."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        model.register_forward_hook(lambda *_: None)
        return super().rank(model, family, tokens)


class Moody(Norms):
    """Ranks differently at every call."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        self._rng = getattr(self, "_rng", np.random.default_rng(0))
        mood = self._rng.random()
        return [replace(each, mlp_channels=each.mlp_channels + mood) for each in super().rank(model, family, tokens)]


class Textless(Norms):
    """Asks for calibration text but does not need it."""

    @property
    def calibration(self) -> Any:
        return (CalibrationOptions(dataset="python-docs", samples=4, tokens=12),)


class Scribbler(Textless):
    """Modifies the calibration tokens."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        tokens[:] = 0
        return super().rank(model, family, tokens)


class Nameless(Guesses):
    """Has a metric name without data set and split."""

    @property
    def metrics(self) -> Any:
        return (Metric("guessed", "maximize", "fraction"),)


class Hashing(Guesses):
    """Uses hash(), which depends on the hash seed."""

    @property
    def data_hash(self) -> str:
        return f"{abs(hash(str(self._windows))):016x}"


class Doubling(Guesses):
    """Returns every measurement twice."""

    def evaluate(self, model: Any) -> Any:
        return super().evaluate(model) * 2


class Negating(Guesses):
    """Returns a negative standard error."""

    def evaluate(self, model: Any) -> Any:
        return [replace(each, standard_error=-1.0) for each in super().evaluate(model)]


class Averaging(Guesses):
    """Returns the mean of all measurements so far."""

    def evaluate(self, model: Any) -> Any:
        [found] = super().evaluate(model)
        self._found = [*getattr(self, "_found", []), found.value]
        return [replace(found, value=float(np.mean(self._found)))]


class Training(Guesses):
    """Leaves the model in training mode."""

    def evaluate(self, model: Any) -> Any:
        found = super().evaluate(model)
        model.train()
        return found


class Blind(Guesses):
    """Does not check for logits that are not finite."""

    def evaluate(self, model: Any) -> Any:
        hidden = model.base_model(self._windows, use_cache=False).last_hidden_state
        return [Measurement(self.metrics[0], float(hidden.sum()), None, self.tokens)]


class Wandering(Guesses):
    """Declares same_batches, but starts with another batch each time."""

    def evaluate(self, model: Any) -> Any:
        self._windows = self._windows.roll(1, dims=0)
        [found] = super().evaluate(model)
        return [replace(found, value=float(self._windows[0].sum()))]


class Promising(Guesses):
    """Declares differentiable, but has no losses."""

    differentiable = True


class Short(WindowOptions):
    """Two batches of a text that is always available."""

    dataset: str = "python-docs"
    tokens: int = 256
    context: int = 64
    batch: int = 2


class Detached(Perplexity):
    """Detaches its losses from the layers."""

    options_model = Short

    def losses(self, model: Any, rng: Any) -> Any:
        for loss in super().losses(model, rng):
            yield Loss(loss.value.detach().requires_grad_(), [score.detach().requires_grad_() for score in loss.scores])


class Halving(Perplexity):
    """Omits every other batch from its losses."""

    options_model = Short

    def losses(self, model: Any, rng: Any) -> Any:
        yield from islice(super().losses(model, rng), 0, None, 2)


BROKEN = [
    ("pruner", Uncompensated, "options_derive_from_pruner_options"),
    ("pruner", Uneven, "every_unit_of_every_layer_is_ranked"),
    ("pruner", Vandal, "the_model_is_left_as_found"),
    ("pruner", Listener, "the_model_is_left_as_found"),
    ("pruner", Moody, "ranking_twice_gives_the_same"),
    ("pruner", Textless, "missing_text_is_refused"),
    ("pruner", Scribbler, "the_text_is_left_alone"),
    ("evaluator", Nameless, "metrics_have_names_of_three_parts_and_none_twice"),
    ("evaluator", Hashing, "data_hash_is_that_of_the_data"),
    ("evaluator", Doubling, "one_measurement_a_metric_in_their_order"),
    ("evaluator", Negating, "numbers_are_finite_with_errors_and_counts_from_zero_on"),
    ("evaluator", Averaging, "what_was_measured_before_does_not_matter"),
    ("evaluator", Training, "the_model_is_left_as_it_was"),
    ("evaluator", Blind, "a_model_of_nan_gives_finite_numbers_or_an_error"),
    ("evaluator", Wandering, "evaluating_twice_gives_the_same"),
    ("evaluator", Wandering, "reused_activations_give_the_same"),
    ("evaluator", Promising, "losses_add_up_to_the_metric_and_lead_back_to_the_layers"),
    ("evaluator", Detached, "losses_add_up_to_the_metric_and_lead_back_to_the_layers"),
    ("evaluator", Halving, "losses_add_up_to_the_metric_and_lead_back_to_the_layers"),
    ("predictor", LooseRidge, "unknown_option_is_refused"),
    ("predictor", LooseRidge, "every_option_is_described"),
    ("predictor", LooseRidge, "options_do_not_change_after_validation"),
    ("predictor", Flat, "predictions_have_the_shape_of_the_targets"),
    ("predictor", Negative, "standard_deviations_are_not_negative"),
    ("predictor", Centring, "a_batch_is_predicted_like_one_by_one"),
    ("predictor", Noisy, "predicting_twice_gives_the_same"),
    ("predictor", Noisy, "the_same_seed_gives_the_same_predictions"),
    ("predictor", Noisy, "global_random_state_is_neither_used_nor_changed"),
    ("predictor", Loud, "nothing_is_printed_to_stdout"),
    ("predictor", Swallowing, "targets_that_are_not_finite_are_refused"),
    ("predictor", Scaling, "inputs_are_left_alone"),
    ("predictor", Backwards, "targets_are_not_mixed_up"),
    ("predictor", Closed, "a_pickled_predictor_predicts_the_same"),
    ("searcher", Greedy, "proposals_meet_the_budget"),
    ("searcher", Repeating, "proposals_are_different_and_no_more_than_wanted"),
    ("searcher", Reversed, "the_best_predicted_comes_first"),
    ("searcher", Silent, "progress_counts_what_is_scored"),
    ("searcher", Remembering, "a_second_search_forgets_the_first"),
    ("space", Twice, "each_component_of_a_layer_is_in_one_choice_at_most"),
    ("space", Stuck, "the_same_generator_gives_the_same_samples"),
]


@pytest.mark.parametrize(("kind", "plugin", "name"), BROKEN, ids=[f"{p.__name__}-{check}" for _, p, check in BROKEN])
def test_a_plugin_that_fails_a_check_is_reported(kind: str, plugin: Any, name: str) -> None:
    suite = SUITES[kind]
    [check] = [check for check in suite.checks if check.__name__ == name]
    verdict = verdict_on(check, suite.subject(plugin, {}, ()), None)
    assert verdict.outcome == "broken"
    assert verdict.reason
    assert "\n" not in verdict.reason


def test_an_expected_failure_that_passes_is_broken() -> None:
    suite = SUITES["space"]
    check = suite.checks[0]
    assert verdict_on(check, suite.subject(Steps, {}, ()), "it cannot").outcome == "broken"
    assert verdict_on(suite.checks[1], suite.subject(LooseRidge, {}, ()), "by design").outcome == "expected failure"


def test_a_missing_module_is_the_reported_reason() -> None:
    suite = SUITES["predictor"]
    verdict = verdict_on(suite.checks[-1], suite.subject(Ridge, {}, ("no_such_module",)), None)
    assert (verdict.outcome, verdict.reason) == ("does not apply", "needs no_such_module, which is not installed")


def test_all_failed_checks_are_reported_at_once_and_an_unknown_name_is_refused() -> None:
    suite = SUITES["predictor"]
    checks = tuple(check for check in suite.checks if check.__name__ == "nothing_is_printed_to_stdout")
    with pytest.raises(CheckFailed, match="Loud fails 1 of 1 checks\nnothing_is_printed"):
        Suite(suite.subject, checks).check(Loud, None, None)
    with pytest.raises(PluginError, match="there is no check 'predicts_wel'"):
        check_predictor(Ridge, expected_failures={"predicts_wel": "no"})


def test_the_known_optimum_is_the_best_within_its_budget(known_optimum: KnownOptimum) -> None:
    assert known_optimum.budget.met_by(known_optimum.optimum)
    assert known_optimum.regret([known_optimum.optimum]).tolist() == [0.0]
    others = Climb(Climb.options_model()).search(known_optimum.problem(), 20)
    assert (known_optimum.regret([each for each in others if each != known_optimum.optimum]) > 0).all()


def test_the_tiny_registry_can_be_queried(tiny_registry: Any, recorded_pairs: Any) -> None:
    [run] = tiny_registry.runs()
    assert (run.name, run.status) == ("recorded", "finished")
    [count] = tiny_registry.rows("SELECT count(*) AS evaluations FROM evaluations")
    assert count["evaluations"] == recorded_pairs.targets.size
