"""A law is worth something if a plugin can break it: each of these breaks one, and that one is named."""

from typing import Any

import numpy as np
import pytest
from pydantic import ConfigDict

from prunecast.errors import PluginError
from prunecast.examples.predictor import Ridge
from prunecast.examples.searcher import Climb
from prunecast.examples.space import Steps
from prunecast.interfaces import PluginOptions, Prediction
from prunecast.testing import SUITES, KnownOptimum, LawBroken, Suite, check_predictor
from prunecast.testing.laws import verdict_on


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


BROKEN = [
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
