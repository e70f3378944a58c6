"""A law is worth something if a plugin can break it: each of these breaks one, and that one is named."""

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from pydantic import ConfigDict

from prunecast.errors import PluginError
from prunecast.models.sensitivity import Loss
from prunecast.plugins.examples.evaluator import Guesses
from prunecast.plugins.examples.predictor import Ridge
from prunecast.plugins.examples.pruner import Norms
from prunecast.plugins.examples.searcher import Climb
from prunecast.plugins.examples.space import Steps
from prunecast.plugins.interfaces import CalibrationOptions, Measurement, Metric, PluginOptions, Prediction
from prunecast.testing import SUITES, KnownOptimum, LawBroken, Suite, check_predictor
from prunecast.testing.checks import verdict_on
from prunecast_plugins.evaluators.perplexity import Perplexity
from prunecast_plugins.evaluators.windows import WindowOptions


class Loose(PluginOptions):
    """Options that take anything."""

    model_config = ConfigDict(extra="allow", frozen=False)
    penalty: float = 0.1


class LooseRidge(Ridge):
    """Takes anything."""

    options_model = Loose


class Flat(Ridge):
    """Forgets the targets' axis."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean[:, 0], std[:, 0])


class Negative(Ridge):
    """Turns the standard deviation around."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean, -std - 1)


class Centring(Ridge):
    """Looks at the whole batch."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean - mean.mean(axis=0), std)


class Noisy(Ridge):
    """Draws from the global generator."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean + np.random.normal(size=mean.shape), std)  # noqa: NPY002


class Loud(Ridge):
    """Prints."""

    def fit(self, architectures: Any, targets: Any) -> None:
        print("fitting")
        super().fit(architectures, targets)


class Swallowing(Ridge):
    """Learns from anything."""

    def fit(self, architectures: Any, targets: Any) -> None:
        super().fit(architectures, np.nan_to_num(targets))


class Scaling(Ridge):
    """Scales the targets in place."""

    def fit(self, architectures: Any, targets: Any) -> None:
        targets /= 2
        super().fit(architectures, targets)


class Backwards(Ridge):
    """Mixes the targets up."""

    def predict(self, architectures: Any) -> Prediction:
        mean, std = super().predict(architectures)
        return Prediction(mean[:, ::-1], std)


class Closed(Ridge):
    """Keeps a function that cannot be pickled."""

    def fit(self, architectures: Any, targets: Any) -> None:
        super().fit(architectures, targets)
        self._closed = lambda: None


class Greedy(Climb):
    """Ignores the budget."""

    def search(self, problem: Any, count: int) -> Any:
        return [problem.space.shape.dense]


class Repeating(Climb):
    """Proposes the best one again and again."""

    def search(self, problem: Any, count: int) -> Any:
        return super().search(problem, 1) * count


class Reversed(Climb):
    """Worst first."""

    def search(self, problem: Any, count: int) -> Any:
        return super().search(problem, count)[::-1]


class Silent(Climb):
    """Counts nothing."""

    def _scored(self, problem: Any, indices: Any) -> Any:
        object.__setattr__(problem, "progress", lambda scored: None)
        return super()._scored(problem, indices)


class Remembering(Climb):
    """Begins where it stopped."""

    def search(self, problem: Any, count: int) -> Any:
        self._seen = [*getattr(self, "_seen", []), *super().search(problem, count)]
        return self._seen[:count]


class Twice(Steps):
    """Decides everything twice."""

    @property
    def choices(self) -> Any:
        return Steps.choices.func(self) * 2  # type: ignore[attr-defined]


class Stuck(Steps):
    """Draws the same every time."""

    def sample(self, count: int, rng: Any) -> Any:
        return super().sample(count, np.random.default_rng(0))


class Uneven(Norms):
    """Ranks all layers but the last."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        return super().rank(model, family, tokens)[:-1]


class Uncompensated(Norms):
    """Leaves nothing to say about compensation."""

    options_model = PluginOptions


class Vandal(Norms):
    """Scales the weights it looks at."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        for parameter in model.parameters():
            parameter.data.mul_(2)
        return super().rank(model, family, tokens)


class Listener(Norms):
    """Leaves a hook behind."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        model.register_forward_hook(lambda *_: None)
        return super().rank(model, family, tokens)


class Moody(Norms):
    """Ranks by its mood."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        self._rng = getattr(self, "_rng", np.random.default_rng(0))
        mood = self._rng.random()
        return [replace(each, mlp_channels=each.mlp_channels + mood) for each in super().rank(model, family, tokens)]


class Textless(Norms):
    """Asks for text and does without."""

    @property
    def calibration(self) -> Any:
        return (CalibrationOptions(dataset="python-docs", samples=4, tokens=12),)


class Scribbler(Textless):
    """Writes on the text."""

    def rank(self, model: Any, family: Any, tokens: Any) -> Any:
        tokens[:] = 0
        return super().rank(model, family, tokens)


class Nameless(Guesses):
    """Names its metric after nothing."""

    @property
    def metrics(self) -> Any:
        return (Metric("guessed", "maximize", "fraction"),)


class Hashing(Guesses):
    """Hashes with hash()."""

    @property
    def data_hash(self) -> str:
        return f"{abs(hash(str(self._windows))):016x}"


class Doubling(Guesses):
    """Measures everything twice."""

    def evaluate(self, model: Any) -> Any:
        return super().evaluate(model) * 2


class Negating(Guesses):
    """Turns its standard error around."""

    def evaluate(self, model: Any) -> Any:
        return [replace(each, standard_error=-1.0) for each in super().evaluate(model)]


class Averaging(Guesses):
    """Returns the mean of all it has ever measured."""

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
    """Looks at no logit."""

    def evaluate(self, model: Any) -> Any:
        hidden = model.base_model(self._windows, use_cache=False).last_hidden_state
        return [Measurement(self.metrics[0], float(hidden.sum()), None, self.tokens)]


class Wandering(Guesses):
    """Promises equal batches and begins elsewhere each time."""

    def evaluate(self, model: Any) -> Any:
        self._windows = self._windows.roll(1, dims=0)
        [found] = super().evaluate(model)
        return [replace(found, value=float(self._windows[0].sum()))]


class Promising(Guesses):
    """Says it is differentiable, and has no losses."""

    differentiable = True


class Short(WindowOptions):
    """Two batches of a text that is always at hand."""

    dataset: str = "python-docs"
    tokens: int = 256
    context: int = 64
    batch: int = 2


class Detached(Perplexity):
    """Cuts its losses off from the layers."""

    options_model = Short

    def losses(self, model: Any, rng: Any) -> Any:
        for loss in super().losses(model, rng):
            yield Loss(loss.value.detach().requires_grad_(), [score.detach().requires_grad_() for score in loss.scores])


class Halving(Perplexity):
    """Leaves every other batch out of its losses."""

    options_model = Short

    def losses(self, model: Any, rng: Any) -> Any:
        yield from islice(super().losses(model, rng), 0, None, 2)


BROKEN = [
    ("pruner", Uncompensated, "options_say_how_to_compensate"),
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
    ("evaluator", Blind, "a_spoilt_model_gives_no_number_that_is_not_finite"),
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
    ("predictor", Backwards, "metrics_are_learnt_side_by_side"),
    ("predictor", Closed, "a_pickled_predictor_predicts_the_same"),
    ("searcher", Greedy, "proposals_meet_the_budget"),
    ("searcher", Repeating, "proposals_are_different_and_no_more_than_wanted"),
    ("searcher", Reversed, "the_best_predicted_comes_first"),
    ("searcher", Silent, "progress_counts_what_is_scored"),
    ("searcher", Remembering, "a_second_search_forgets_the_first"),
    ("space", Twice, "each_component_of_a_layer_is_in_one_choice_at_most"),
    ("space", Stuck, "the_same_generator_gives_the_same_samples"),
]


@pytest.mark.parametrize(("kind", "plugin", "name"), BROKEN, ids=[f"{p.__name__}-{law}" for _, p, law in BROKEN])
def test_a_plugin_that_breaks_a_law_is_found_out(kind: str, plugin: Any, name: str) -> None:
    suite = SUITES[kind]
    [law] = [law for law in suite.laws if law.__name__ == name]
    verdict = verdict_on(law, suite.subject(plugin, {}, ()), None)
    assert verdict.outcome == "broken"
    assert verdict.reason
    assert "\n" not in verdict.reason


def test_an_expected_failure_has_to_fail() -> None:
    suite = SUITES["space"]
    law = suite.laws[0]
    assert verdict_on(law, suite.subject(Steps, {}, ()), "it cannot").outcome == "broken"
    assert verdict_on(suite.laws[1], suite.subject(LooseRidge, {}, ()), "by design").outcome == "expected failure"


def test_a_missing_module_is_a_reason_and_no_silence() -> None:
    suite = SUITES["predictor"]
    verdict = verdict_on(suite.laws[-1], suite.subject(Ridge, {}, ("no_such_module",)), None)
    assert (verdict.outcome, verdict.reason) == ("does not apply", "needs no_such_module, which is not installed")


def test_all_broken_laws_are_told_at_once_and_an_unknown_one_is_refused() -> None:
    suite = SUITES["predictor"]
    laws = tuple(law for law in suite.laws if law.__name__ == "nothing_is_printed_to_stdout")
    with pytest.raises(LawBroken, match="Loud breaks 1 of 1 laws\nnothing_is_printed"):
        Suite(suite.subject, laws).check(Loud, None, None)
    with pytest.raises(PluginError, match="there is no law 'predicts_wel'"):
        check_predictor(Ridge, expected_failures={"predicts_wel": "no"})


def test_the_known_optimum_is_the_best_of_its_budget(known_optimum: KnownOptimum) -> None:
    assert known_optimum.budget.met_by(known_optimum.optimum)
    assert known_optimum.regret([known_optimum.optimum]).tolist() == [0.0]
    others = Climb(Climb.options_model()).search(known_optimum.problem(), 20)
    assert (known_optimum.regret([each for each in others if each != known_optimum.optimum]) > 0).all()


def test_the_tiny_registry_answers_like_any_other(tiny_registry: Any, recorded_pairs: Any) -> None:
    [run] = tiny_registry.runs()
    assert (run.name, run.status) == ("recorded", "finished")
    [count] = tiny_registry.rows("SELECT count(*) AS evaluations FROM evaluations")
    assert count["evaluations"] == recorded_pairs.targets.size
