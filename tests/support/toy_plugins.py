"""Plugins of every kind with options only; validating a spec creates no instances."""

from types import ModuleType
from typing import Annotated, Literal

from pydantic import Field, create_model, field_validator

from prunecast.plugins.hookspecs import Entry, hookimpl
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import (
    CalibrationOptions,
    Evaluator,
    PluginOptions,
    Predictor,
    Pruner,
    Searcher,
    SearchSpace,
)


class LadderOptions(PluginOptions):
    steps: list[Annotated[float, Field(ge=0, le=1)]] = Field(description="Kept fractions.")
    layers: str | list[int] = "all"

    @field_validator("steps")
    @classmethod
    def ascending(cls, steps: list[float]) -> list[float]:
        if steps != sorted(steps):
            raise ValueError("steps must ascend: sort them")
        return steps


class Ladder(SearchSpace[LadderOptions]):
    options_model = LadderOptions


class SlopeOptions(PluginOptions):
    order: Literal[1, 2] = 1
    calibration: CalibrationOptions = CalibrationOptions()


class Slope(Pruner[SlopeOptions]):
    options_model = SlopeOptions


class WordsOptions(PluginOptions):
    dataset: str
    tokens: int = Field(1024, ge=1)


class Words(Evaluator[WordsOptions]):
    options_model = WordsOptions


class LineOptions(PluginOptions):
    ridge: float = Field(1.0, gt=0, description="Weight decay.")


class Line(Predictor[LineOptions]):
    options_model = LineOptions


def forest(depth: int) -> type[Predictor[PluginOptions]]:
    """Predictors whose option classes have equal names but different contents, also in a nested mapping."""
    growth = create_model("Growth", __base__=PluginOptions, __module__=f"forest_{depth}", depth=(int, depth))
    options = create_model("Options", __base__=PluginOptions, __module__=f"forest_{depth}", growth=(growth, growth()))
    return type("Forest", (Predictor,), {"options_model": options})


Shallow = forest(2)
Deep = forest(9)


class DiceOptions(PluginOptions):
    trials: int = 10


class Dice(Searcher[DiceOptions]):
    options_model = DiceOptions


ENTRIES = {
    "prunecast_search_spaces": [Entry("ladder", "toy_plugins:Ladder", "The same steps everywhere")],
    "prunecast_pruners": [Entry("slope", "toy_plugins:Slope", "Follows the slope")],
    "prunecast_evaluators": [Entry("words", "toy_plugins:Words", "Counts words")],
    "prunecast_predictors": [
        Entry("line", "toy_plugins:Line", "A straight line"),
        Entry("shallow", "toy_plugins:Shallow", "Flat trees"),
        Entry("deep", "toy_plugins:Deep", "Tall trees"),
    ],
    "prunecast_searchers": [Entry("dice", "toy_plugins:Dice", "Throws dice")],
}
GHOST = Entry("ghost", "no_such_module:Ghost", "Cannot be imported")


def toy_host(*more_predictors: Entry) -> PluginHost:
    """A host with the plugins above and no others."""
    entries = ENTRIES | {"prunecast_predictors": [*ENTRIES["prunecast_predictors"], *more_predictors]}
    hooks = {hook: hookimpl(lambda handed_over=handed_over: handed_over) for hook, handed_over in entries.items()}
    module = ModuleType("toys")
    vars(module).update(hooks)
    host = PluginHost()
    host.manager.register(module, "toys")
    return host
