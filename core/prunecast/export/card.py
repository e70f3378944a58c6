"""The model card of an exported model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prunecast.architecture.architecture import Architecture
from prunecast.models.license import License
from prunecast.plugins.exporter import Parity, Written
from prunecast.text import markdown, visible

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

RELATION = "finetune"
"""Relation to the base model in the Hub's terms, which are adapter, merge, quantized and finetune: none for pruning."""

_METRIC_TYPES = {"ppl": "perplexity"}
"""Names of metrics on the Hub by the last part of their name in prunecast, where the two differ."""


@dataclass(frozen=True)
class Result:
    """A measured metric of the exported model.

    Attributes:
        metric: its name, ``DATASET.SPLIT.METRIC``.
        value: its value.
        dataset: id of the data set on the Hub, or its name if it is not from there.
        config: configuration of the data set on the Hub, or None.
        split: split of the data set.
        conditions: options it was measured under, such as ``tokens`` and ``context``.
    """

    metric: str
    value: float
    dataset: str
    config: str | None
    split: str
    conditions: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class CardContent:
    """Contents of a model card that the exported model itself does not provide.

    Attributes:
        model_name: title of the card.
        base_model: Hub id of the dense model, or None if it has none.
        revision: its commit, or None.
        spec_text: the spec of the run that produced the model, verbatim.
        columns: headings of the table of results; the first is that of the models, e.g.
            ``("model", "parameters", "wikitext2.test.ppl")``.
        rows: one row per model, as long as ``columns``: the dense model, the baselines, this one.
        protocol: lines under the table: data, split, context length, tokens, dtype, what counts as a parameter.
        license: licence of the dense model, or None if its files state none.
        made_from: the models that the dense model was made from by pruning, in words; empty if it was not pruned.
        results: metrics of the exported model for its metadata, which programs read.
    """

    model_name: str
    base_model: str | None
    spec_text: str
    columns: tuple[str, ...]
    rows: list[tuple[str | int | float, ...]]
    protocol: str
    license: License | None = None
    revision: str | None = None
    made_from: str = ""
    results: tuple[Result, ...] = ()


def render_card(card: CardContent, architecture: Architecture, written: Written, parity: Parity | None) -> str:
    """The card as Markdown with a YAML front matter.

    Args:
        card: contents of the card.
        architecture: architecture of the exported model.
        written: result of the exporter.
        parity: its comparison with the measured model; None if it could not be compared.
    """
    origin = f" Pruned from {_base_model(card.base_model, card.revision)}." if card.base_model else ""
    if card.made_from:
        origin += f" The model that it was pruned from was itself made from {markdown(card.made_from)}."
    return f"""---
{_front_matter(card, written.library)}
---

# {markdown(card.model_name)}

A causal language model of {written.parameters:,} parameters, pruned by prunecast.{origin}

## Use

{written.loading}
{_compared(parity)}
{_notes(written.notes)}
## Results

{_table(card)}

{_lines(card.protocol)}

## Architecture

KV groups x query heads per group + MLP width of each layer, `*` for equal neighbours, 0 for a removed component:

    {architecture}

`architecture.json` holds the same for programs, `prunecast_spec.yaml` the spec that led here.

## Licence

{_licence(card.license)}
"""


def _compared(parity: Parity | None) -> str:
    """Paragraph on the comparison with the measured model."""
    if parity is None:
        return "The files have not been compared with the measured model: their engine was not installed."
    facts = [f"{parity.compared} differ by at most {parity.max_difference:.2g}"]
    if parity.greedy is not None:
        facts.append(f"of {parity.greedy} tokens of greedy text the first {parity.greedy_equal} are the same")
    if parity.perplexity is not None and parity.reference_perplexity is not None:
        facts.append(
            f"the perplexity of {parity.tokens:,} tokens is {parity.perplexity:.4f} (measured model: "
            f"{parity.reference_perplexity:.4f})"
        )
    return f"Compared with the measured model in {parity.engine}: {'; '.join(facts)}.{_notes(parity.notes)}"


def _notes(notes: tuple[str, ...]) -> str:
    """Notes as a list, after an empty line; empty if there are none."""
    return "\n".join(["\n", *(f"- {markdown(note)}" for note in notes)]) if notes else ""


def _front_matter(card: CardContent, library: str | None) -> str:
    """The card's metadata in the terms of the Hub, as YAML."""
    from huggingface_hub import ModelCardData

    license = card.license
    return ModelCardData(
        base_model=card.base_model,
        base_model_relation=RELATION if card.base_model else None,
        library_name=library,
        license=visible(license.identifier) if license else None,
        license_name=visible(license.name) if license and license.name else None,
        license_link=visible(license.link) if license and license.link else None,
        pipeline_tag="text-generation",
        tags=["prunecast", "pruning", "structured-pruning"],
        model_name=visible(card.model_name) if card.results else None,
        eval_results=[_eval_result(result) for result in card.results] or None,
    ).to_yaml()


def _eval_result(result: Result) -> "EvalResult":
    """A result for the Hub's ``model-index``, which allows only some characters in the id of a data set."""
    from huggingface_hub import EvalResult

    kind = result.metric.rpartition(".")[2]
    return EvalResult(
        task_type="text-generation",
        task_name="Text generation",
        dataset_type=re.sub(r"[^\w./-]", "-", result.dataset, flags=re.ASCII),
        dataset_name=visible(result.dataset),
        dataset_config=result.config,
        dataset_split=visible(result.split),
        metric_type=visible(_METRIC_TYPES.get(kind, kind)),
        metric_name=visible(result.metric),
        metric_value=result.value,
        metric_args={key: visible(v) if isinstance(v, str) else v for key, v in result.conditions.items()} or None,
    )


def _licence(license: License | None) -> str:
    if license is None:
        return (
            "The files of the model that this one was pruned from state no licence, so none is stated here. Its "
            "licence applies to this model too."
        )
    name = markdown(license.name or license.identifier)
    where = f" ([text](<{re.sub('[<>]', '', visible(license.link))}>))" if license.link else ""
    return f"That of the model it was pruned from, as stated in its files: {name}{where}."


def _base_model(name: str, revision: str | None) -> str:
    """Link to the dense model on the Hub, at its commit if that is known."""
    link = f"[{name}](https://huggingface.co/{name}"
    return f"{link})" if revision is None else f"{link}/tree/{revision}) at commit `{revision}`"


def _lines(text: str) -> str:
    return "\n".join(map(markdown, text.split("\n")))


def _table(card: CardContent) -> str:
    rule = ["---"] + ["---:"] * (len(card.columns) - 1)
    lines = [card.columns, rule, *card.rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return markdown(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4f}"
