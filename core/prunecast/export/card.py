"""The model card of an exported model."""

from dataclasses import dataclass

from prunecast.architecture.architecture import Architecture
from prunecast.plugins.exporter import Parity, Written
from prunecast.text import markdown


@dataclass(frozen=True)
class CardContent:
    """Contents of a model card that do not follow from the exported model itself.

    Attributes:
        model_name: title of the card.
        base_model: Hub id of the dense model, or None if it has none.
        revision: its commit, or None.
        spec_text: the spec of the run that produced the model, verbatim.
        columns: headings of the table of results; the first is that of the models, e.g.
            ``("model", "parameters", "wikitext2.test.ppl")``.
        rows: one row per model, as long as ``columns``: the dense model, the baselines, this one.
        protocol: text under the table: data, split, context length, tokens, dtype, what counts as a parameter.
        license: Hub identifier of the licence, e.g. ``apache-2.0``, or None to omit it.
        made_from: the models that the dense model was made from by pruning, in words; empty if it was not pruned.
    """

    model_name: str
    base_model: str | None
    spec_text: str
    columns: tuple[str, ...]
    rows: list[tuple[str | int | float, ...]]
    protocol: str
    license: str | None = None
    revision: str | None = None
    made_from: str = ""


def render_card(card: CardContent, architecture: Architecture, written: Written, parity: Parity | None) -> str:
    """The card as Markdown with a YAML front matter.

    Args:
        card: contents of the card.
        architecture: architecture of the exported model.
        written: what was written.
        parity: its comparison with the measured model; None if it could not be compared.
    """
    from huggingface_hub import ModelCardData

    front = ModelCardData(
        base_model=card.base_model,
        library_name="transformers",
        license=card.license,
        pipeline_tag="text-generation",
        tags=["prunecast", "pruning", "structured-pruning"],
    )
    origin = f" Pruned from {_base_model(card.base_model, card.revision)}." if card.base_model else ""
    if card.made_from:
        origin += f" The model that it was pruned from was itself made from {markdown(card.made_from)}."
    return f"""---
{front.to_yaml()}
---

# {markdown(card.model_name)}

A causal language model of {written.parameters:,} parameters, pruned by prunecast.{origin}

## Use

{written.loading}
{_compared(parity)}
{_notes(written.notes)}
## Results

{_table(card)}

{markdown(card.protocol)}

## Architecture

KV groups x query heads per group + MLP width of each layer, `*` for equal neighbours, 0 for a component that is gone:

    {architecture}

`architecture.json` holds the same for programs, `prunecast_spec.yaml` the spec that led here.
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


def _base_model(name: str, revision: str | None) -> str:
    """Link to the dense model on the Hub, at its commit if that is known."""
    link = f"[{name}](https://huggingface.co/{name}"
    return f"{link})" if revision is None else f"{link}/tree/{revision}) at commit `{revision}`"


def _table(card: CardContent) -> str:
    rule = ["---"] + ["---:"] * (len(card.columns) - 1)
    lines = [card.columns, rule, *card.rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return markdown(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4f}"
