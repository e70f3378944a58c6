"""The first spec of a model: looked at, chosen, written, and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from prunecast.errors import BudgetError
from prunecast.first_spec.look import Machine, check_memory, look_at
from prunecast.first_spec.texts import texts_at_hand
from prunecast.first_spec.workload import WORKLOADS, Workload, largest_within, run_seconds
from prunecast.first_spec.write import AtHand, Wishes, attention_rates, ranking_tokens, written
from prunecast.plugins.host import PluginHost
from prunecast.problem.problem import Problem
from prunecast.recover.training import PASSES
from prunecast.run.estimate import Estimate, estimate
from prunecast.spec.load import parse_spec
from prunecast.spec.model import Spec
from prunecast.text import duration


@dataclass(frozen=True)
class FirstSpec:
    """A spec that is valid, and lines for the user about it.

    Attributes:
        text: the YAML file.
        notes: what to know of it; they depend on this machine's speed.
    """

    text: str
    notes: tuple[str, ...]


def first_spec(
    wishes: Wishes, host: PluginHost, calibration: Sequence[str] = (), evaluation: Sequence[str] = ()
) -> FirstSpec:
    """A spec for a model that runs on this machine in about the time that is wished for.

    No weight is read.

    Args:
        wishes: the model, the time and the budget.
        host: where the plugins of the spec come from.
        calibration, evaluation: texts, see :func:`prunecast.first_spec.texts.texts_at_hand`.

    Raises:
        ModelError: the model cannot be pruned, see :func:`prunecast.first_spec.look.look_at`; or memory is short.
        DataError: there is no text for it.
        BudgetError: the space cannot meet the budget, or the time is too short.
    """
    look = look_at(wishes.model, host)
    machine = Machine.here(look.shape.hidden_size)
    check_memory(look.shape, machine.memory, look.source.name)
    return spec_for(wishes, AtHand(look, machine, texts_at_hand(look, calibration, evaluation)), host)


def spec_for(wishes: Wishes, at_hand: AtHand, host: PluginHost) -> FirstSpec:
    """A spec from what was found; the same for the same arguments.

    Raises:
        BudgetError: the space cannot meet the budget, or the time is too short.
    """
    look, attention = at_hand.look, _attention(wishes, at_hand, host)
    with TemporaryDirectory(prefix="prunecast-") as folder:
        config = Path(folder) / "config.json"
        look.config.to_json_file(config)

        def seconds_of(workload: Workload) -> float:
            spec = parse_spec(written(wishes, at_hand, attention, workload), host)
            estimated = estimate(_with_config(spec, config), host)
            passes = _passes(estimated, ranking_tokens(look, at_hand.texts, workload), at_hand.machine)
            return run_seconds(workload, passes, sum(stage.evaluations for stage in estimated.stages))

        workload, seconds = largest_within(wishes.minutes, seconds_of)
    notes = [f"the run takes about {duration(seconds)} on this machine, if nothing else keeps it busy"]
    if at_hand.texts.bundled:
        notes.append(
            "text of Python's documentation is all that is at hand: enough to try, too little for a model to keep; "
            "name better text with --calibration FILE --evaluate FILE, or set PRUNECAST_DATA"
        )
    return FirstSpec(written(wishes, at_hand, attention, workload), tuple(notes))


def _attention(wishes: Wishes, at_hand: AtHand, host: PluginHost) -> tuple[float, ...]:
    """Pruning rates of attention; with 1.0 among them only if nothing else meets the budget."""
    shape = at_hand.look.shape
    usual = attention_rates(shape)
    try:
        Problem.of(parse_spec(written(wishes, at_hand, usual, WORKLOADS[0]), host), host, shape)
    except BudgetError:
        return (*usual, 1.0)
    return usual


def _with_config(spec: Spec, config: Path) -> Spec:
    """The spec with the config of its model, by which a run is estimated without its weights."""
    return spec.model_copy(update={"model": spec.model.model_copy(update={"config": str(config)})})


def _passes(estimated: Estimate, ranking: int, machine: Machine) -> float:
    """Seconds of all passes over text: those that a run's own estimate counts, and those of ranking on some tokens."""
    macs = sum(stage.petaflop for stage in estimated.stages) * 1e15 / 2
    a_token = macs / sum(stage.tokens for stage in estimated.stages)
    return macs / machine.speed + PASSES * ranking * a_token / machine.ranking_speed
