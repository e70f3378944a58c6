"""The text of a first spec: YAML with comments that say what each choice is and how to change it."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

import yaml

from prunecast.architecture.shape import ModelShape, Quantity
from prunecast.data.local import LocalFile
from prunecast.first_spec.look import Look, Machine, ranking_bytes
from prunecast.first_spec.texts import Text, Texts
from prunecast.first_spec.workload import WORKLOADS, Workload

MLP_RATES = tuple(round(step * 0.05, 2) for step in range(19))
"""Pruning rates of an MLP: 0.0 to 0.9."""

MOSTLY_EMBEDDINGS = 1 / 3
"""Share of the embeddings in the parameters above which a budget leaves them out."""

_OTHER: dict[Quantity, Quantity] = {
    "parameters": "parameters_without_embeddings",
    "parameters_without_embeddings": "parameters",
}

EXPORTS = "out"
"""Folder of the exports beside a spec."""

_NAME = re.compile(r"^name: *[\"']?([\w.-]+)", re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Wishes:
    """What the user asks of a first spec.

    Attributes:
        model: the model as written on the command line.
        minutes: time of the run.
        budget: share of the model that may remain.
        folder: folder of the spec, from which its relative paths start.
        name: name of the run and of its export; empty for that of the model and the budget.
    """

    model: str
    minutes: float
    budget: float
    folder: Path
    name: str = ""

    @property
    def run_name(self) -> str:
        """Name of the run."""
        return self.name or f"{_name_of(self.model)}-{_percent(self.budget)}"


@dataclass(frozen=True)
class AtHand:
    """What there is to make a spec of: a model, a machine and texts."""

    look: Look
    machine: Machine
    texts: Texts


def written(wishes: Wishes, at_hand: AtHand, attention: Sequence[float], workload: Workload) -> str:
    """The spec as text; the same for the same arguments.

    Args:
        wishes: what the user asks for.
        at_hand: what there is.
        attention: pruning rates of attention, ascending.
        workload: how much the run measures.
    """
    look, texts = at_hand.look, at_hand.texts
    sections = (
        _head(wishes, look),
        _model(wishes, at_hand),
        _space(look.shape, attention),
        _pruner(wishes, at_hand, workload),
        _evaluators(wishes, look, texts, workload),
        _method(workload),
        _budget(look.shape, wishes.budget),
        _pairs(workload, wishes.minutes),
        _report(wishes, look, texts, workload),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(wishes: Wishes, look: Look) -> Iterator[str]:
    yield f"# Prunes {look.source.name} to {_percent(wishes.budget)} %. Written by prunecast init."
    yield "# In the commands below, FILE is this file:"
    yield "#   prunecast spec validate FILE     checks it after a change"
    yield "#   prunecast run FILE --dry-run     says what would be measured, and how long that takes"
    yield "#   prunecast run FILE               runs it; the same command continues a run that was interrupted"
    yield "#   prunecast plugins show NAME      lists the options of a plugin, such as obs or gp"
    yield "# --set KEY=VALUE changes a key for one run, for example --set budget.parameters=0.7."
    yield f"name: {_scalar(wishes.run_name)}  # name of the run and of its export"


def _model(wishes: Wishes, at_hand: AtHand) -> Iterator[str]:
    look, dtype = at_hand.look, str(at_hand.machine.dtype).removeprefix("torch.")
    yield "model:"
    yield f"  source: {_scalar(place_from(wishes.folder, wishes.model, os.path.exists(wishes.model)))}"
    if look.source.revision is not None:
        yield "  # The commit that was the newest; without it, a run takes the newest one of its time."
        yield f"  revision: {_scalar(look.source.revision)}"
    reasons = {"float32": "bfloat16 is not faster here", "bfloat16": "faster here than float32, in half the memory"}
    yield f"  dtype: {dtype}  # {reasons[dtype]}; numbers of another dtype are not comparable"


def _space(shape: ModelShape, attention: Sequence[float]) -> Iterator[str]:
    depth = len(shape.dense.layers)
    first, last = whole_layers(depth)
    yield "# What may be pruned: query heads and KV groups, and channels of the MLP, of each layer by itself."
    yield "space:"
    yield "  use: layerwise"
    if first:
        ends = f"The first {first} and the last {last}" if last else f"The first {first}"
        yield f"  # {ends} of {depth} layers stay whole, because pruning them costs most; ':' is all layers."
        yield f'  layers: "{first}:{depth - last}"'
    else:
        yield '  layers: ":"  # every layer; of a deeper model the first and last ones would stay whole'
    yield "  # Pruning rates. With 1.0 among them, whole attentions or MLPs may go."
    yield f"  attention: {_list(attention)}"
    yield f"  mlp: {_list(MLP_RATES)}"
    yield "  # The first architectures are near uniform MLP pruning, and keep most attentions whole."
    yield "  sampling: {draw: near, reach: 3, attention: [0.6, 1.0]}"


def _pruner(wishes: Wishes, at_hand: AtHand, workload: Workload) -> Iterator[str]:
    look = at_hand.look
    items = [
        f"    - {{{_text(wishes, text)}, samples: {samples}, tokens: {look.window}}}"
        for text, samples in _samples(at_hand.texts, workload)
    ]
    if ranking_bytes(look.shape) <= at_hand.machine.memory:
        yield "# Which units go first: those that cost least once the kept ones make up for them by least squares."
        yield "# More samples make a better model, and the ranking slower; it is computed once."
        yield "pruner:"
        yield "  use: obs"
        yield "  calibration: &calibration"
        yield from items
        yield "  compensate: {method: least-squares, calibration: *calibration}"
        return
    yield "# Which units go first: those whose removal changes the loss least. The pruner obs and compensation make"
    yield "# better models, and need more memory than is free here."
    yield "pruner:"
    yield "  use: taylor"
    yield "  calibration:"
    yield from items


def _evaluators(wishes: Wishes, look: Look, texts: Texts, workload: Workload) -> Iterator[str]:
    yield "# The search minimises the divergence from the dense model on validation text. More text, and other"
    yield "# evaluators (prunecast plugins list --kind evaluator), can be added."
    yield "evaluators:"
    yield from (f"  {line}" for line in _measured(wishes, look, "kl", texts.search, workload.tokens))


def _method(workload: Workload) -> Iterator[str]:
    yield "# A Gaussian process predicts the divergence, and evolution searches by the prediction. Proposals stay near"
    yield "# architectures that have been measured: choose.within is the greatest distance."
    yield "predictor: {use: gp, margin: 8.0}"
    yield "searcher: {use: evolution}"
    yield "choose: {width: -1.0, within: 0.15, shrink: 0.5}"
    if workload.neighbours:
        yield "# Pairs around which local sensitivities are estimated in each round; one costs about 14 evaluations."
        yield f"neighbours: {workload.neighbours}"


def _budget(shape: ModelShape, share: float) -> Iterator[str]:
    quantity = quantity_for(shape)
    yield "# What may remain: up to 1 a share of the dense model, above 1 a number. Other quantities:"
    yield f"# {_OTHER[quantity]}, macs and kv_cache_bytes; of several, all are met."
    if quantity != "parameters":
        embeddings = shape.embeddings / int(shape.count([shape.dense])[0])
        yield f"# Embeddings are {100 * embeddings:.0f} % of this model and are not pruned; the share is of the others."
    yield f"budget: {{{quantity}: {share:g}}}"


def _pairs(workload: Workload, minutes: float) -> Iterator[str]:
    yield "# Architectures measured before the first fit, within 0.02 of the budget, and those proposed in each round:"
    if workload == WORKLOADS[-1]:
        yield f"# the most that init proposes; {minutes:g} minutes allow more on the machine where this was written."
    else:
        yield f"# as many as a run of about {minutes:g} minutes allows on the machine where this was written."
    yield f"collect: {{pairs: {workload.pairs}, band: 0.02}}"
    yield f"rounds: {workload.rounds}"
    yield f"per_round: {workload.per_round}"


def _report(wishes: Wishes, look: Look, texts: Texts, workload: Workload) -> Iterator[str]:
    yield "# The best are measured on test text, which nothing before has read, and so are uniform architectures of"
    yield "# the same size, with which they are compared."
    yield "verify:"
    yield f"  top: {workload.top}"
    yield "  evaluators:"
    tested = _measured(wishes, look, "perplexity", texts.report, 2 * workload.tokens)
    yield from (f"    {line}" for line in tested)
    yield "baselines: [uniform, uniform-mlp]"
    yield ""
    yield "# Folder of the smaller model, in the format of transformers. It is relative to this file; {name} is the"
    yield "# name above."
    if others := [target for target in look.targets if target != "huggingface"]:
        other = others[0]
        yield f"# With targets: [huggingface, {other}] it is written for {other}, too. The models are then in the"
        yield f"# folders huggingface and {other} of that one, and the search proposes only what all targets can"
        yield f"# express. Targets of this model: {', '.join(look.targets)}."
    yield f'export: {{path: "{EXPORTS}/{{name}}"}}'


def with_free_name(wishes: Wishes, file: Path | None) -> Wishes:
    """The wishes with a name whose export folder is not there, and that no other spec beside this one has.

    Args:
        wishes: what the user asks for.
        file: the file of the spec, which may be replaced; None for none.
    """
    folder = wishes.folder
    others = [other for other in sorted(folder.glob("*.y*ml")) if other != file]
    named = {name for other in others if (name := _name_in(other)) is not None}
    usual = wishes.run_name
    names = chain([usual], (f"{usual}-{number}" for number in count(2)))
    free = next(name for name in names if name not in named and not os.path.lexists(folder / EXPORTS / name))
    return replace(wishes, name=free)


def _name_in(spec: Path) -> str | None:
    """The name of the run in a spec; None if the file cannot be read or has none."""
    try:
        found = _NAME.search(spec.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found and found[1]


def ranking_tokens(look: Look, texts: Texts, workload: Workload) -> int:
    """Number of tokens of calibration text in the spec."""
    return look.window * sum(samples for _, samples in _samples(texts, workload))


def whole_layers(depth: int) -> tuple[int, int]:
    """Numbers of first and of last layers that are not pruned: a tenth and a fifteenth of ``depth``, rounded."""
    return round(depth / 10), round(depth / 15)


def attention_rates(shape: ModelShape) -> tuple[float, ...]:
    """Pruning rates of attention, ascending: none, a head of each group, a group, both, a third, and two thirds.

    They are those of the layer with the most heads. Of rates that leave the same number of query heads only the first
    is kept.
    """
    groups, per_group, _ = max(shape.dense.layers, key=lambda layer: layer.query_heads)
    head, group = 1 / per_group if per_group > 1 else 0.0, 1 / groups if groups > 1 else 0.0
    rates = (0.0, head, group, 1 - (1 - head) * (1 - group), 1 / 3, 2 / 3)
    by_heads: dict[int, float] = {}
    for rate in rates:
        left = max(round((1 - rate) * groups * per_group), 1)
        by_heads.setdefault(left, round(rate, 2))
    return tuple(sorted(by_heads.values()))


def quantity_for(shape: ModelShape) -> Quantity:
    """Quantity that a budget limits: all parameters, or those without embeddings where these are a third or more."""
    mostly = shape.embeddings > MOSTLY_EMBEDDINGS * int(shape.count([shape.dense])[0])
    return "parameters_without_embeddings" if mostly else "parameters"


def place_from(folder: Path, name: str, is_local: bool) -> str:
    """Name of a model or data set in a spec in ``folder``: a relative path is made to start from there."""
    if not is_local or os.path.isabs(name) or name.startswith("~"):
        return name
    return Path(os.path.relpath(name, folder)).as_posix()


def _measured(wishes: Wishes, look: Look, use: str, texts: Sequence[Text], tokens: int) -> Iterator[str]:
    for text in texts:
        count = max(min(tokens // look.window, text.windows), 2) * look.window
        yield f"- {{use: {use}, {_text(wishes, text)}, tokens: {count}, place: spread, context: {look.window}}}"


def _samples(texts: Texts, workload: Workload) -> list[tuple[Text, int]]:
    """Calibration texts, each with its number of windows."""
    share = -(-workload.samples // len(texts.calibration))
    return [(text, min(share, text.windows)) for text in texts.calibration]


def _text(wishes: Wishes, text: Text) -> str:
    dataset = place_from(wishes.folder, text.dataset, LocalFile.is_named_by(text.dataset))
    return f"dataset: {_scalar(dataset)}, split: {text.split}"


def _list(numbers: Iterable[float]) -> str:
    return f"[{', '.join(map(str, numbers))}]"


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def _name_of(model: str) -> str:
    """Name of a model without its path or organisation, in characters that a folder may have."""
    name = Path(os.path.abspath(model)).name.removesuffix(".gguf")
    return _NOT_IN_NAMES.sub("-", name).strip("-.") or "model"


def _scalar(value: str) -> str:
    """A text in YAML, quoted where it would be read as something else."""
    plain = _PLAIN.fullmatch(value) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)
