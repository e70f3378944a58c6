"""The outline of a run whose model is not at hand: what it would measure and what that costs, from a config alone."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prunecast.budget import Budget
from prunecast.errors import ModelError
from prunecast.interfaces import SearchSpace
from prunecast.models.families import shape_of
from prunecast.pipeline.baselines import UniformCut
from prunecast.pipeline.contenders import CONTENDERS
from prunecast.pipeline.neighbours import EVALUATIONS
from prunecast.plugins import PluginHost
from prunecast.shape import ModelShape
from prunecast.spec.model import EvaluatorUse, Spec


@dataclass(frozen=True)
class OutlinedStage:
    """One stage of a run.

    Attributes:
        stage: its name.
        architectures: how many it measures; for neighbours, how many would cost as much.
        evaluations: architectures times evaluators.
        tokens: tokens of text that go through the model; questions, whose length is not known here, are not in it.
        questions: evaluations whose tokens are not counted.
        petaflop: operations of a forward pass over the tokens, 2 a multiply-accumulate of the dense model, in 10^15.
    """

    stage: str
    architectures: int
    evaluations: int
    tokens: int
    questions: int
    petaflop: float


@dataclass(frozen=True)
class Outline:
    """All stages of a run in order, for a model of ``parameters`` parameters and a space of ``choices`` choices."""

    parameters: int
    choices: int
    stages: tuple[OutlinedStage, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"parameters": self.parameters, "choices": self.choices, "stages": [asdict(s) for s in self.stages]}


def outline(spec: Spec, host: PluginHost) -> Outline:
    """Outline a spec from its ``model.config``.

    Raises:
        ModelError: there is no such file, it is no config, or prunecast does not know its family.
        BudgetError: the space has nothing that meets the budget.
    """
    shape = _shape(spec)
    space_class: Any = host.find("space", spec.space.use).load()
    space: SearchSpace[Any] = space_class(spec.space.options, shape)
    Budget.of(shape, spec.budget).check(space.choices)
    searched, verified = spec.evaluators, [*spec.evaluators, *spec.verify.evaluators]
    totals = spec.per_round if spec.choose.rule == "spread" else 1
    cuts = [cut for cut in map(UniformCut.named, spec.baselines) if cut]
    searches = [name for name in CONTENDERS if name in spec.baselines]
    pairs, chosen = spec.collect.pairs, spec.rounds * spec.per_round
    stages: list[tuple[str, int, Sequence[EvaluatorUse]]] = [
        ("dense", 1, verified),
        ("pairs", pairs, searched),
        ("rounds", chosen, searched),
        ("verify", spec.verify.top + totals - 1, spec.verify.evaluators),
        ("baselines", len(cuts) * totals + len(searches), verified),
        *((name, pairs + chosen, searched) for name in searches),
    ]
    stages += [] if spec.recover is None else [("recover", 1, verified)]
    around = spec.rounds * spec.neighbours * EVALUATIONS
    stages += [("neighbours", around, searched)] if around else []
    count = int(shape.count([shape.dense])[0])
    return Outline(count, len(space.choices), tuple(_stage(shape, *stage) for stage in stages))


def _stage(shape: ModelShape, name: str, architectures: int, evaluators: Sequence[EvaluatorUse]) -> OutlinedStage:
    lengths = [getattr(use.options, "tokens", None) for use in evaluators]
    tokens = architectures * sum(length for length in lengths if length is not None)
    operations = 2 * tokens * int(shape.count([shape.dense], "macs")[0])
    questions = architectures * lengths.count(None)
    return OutlinedStage(name, architectures, architectures * len(evaluators), tokens, questions, operations / 1e15)


def _shape(spec: Spec) -> ModelShape:
    from transformers import AutoConfig

    path = spec.config_path
    if path is None:
        raise ModelError("model.config: name the config.json of the model to outline a run without it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        config = AutoConfig.for_model(**content)
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"model.config: {path} is no model config ({reason}): name a config.json") from error
    return shape_of(config)
