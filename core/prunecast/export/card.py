"""The model card of an exported model."""

from dataclasses import dataclass
from importlib.metadata import version

from prunecast.architecture.architecture import Architecture
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


OLDEST = "5.16.1"
"""Oldest version of transformers in which exports have been loaded."""


def render_card(card: CardContent, architecture: Architecture, parameters: int, vllm: str) -> str:
    """The card as Markdown with a YAML front matter.

    Args:
        card: contents of the card.
        architecture: architecture of the exported model.
        parameters: number of parameters in the exported file.
        vllm: whether vLLM serves it, and how; one or more sentences.
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

A causal language model of {parameters:,} parameters, pruned by prunecast.{origin}

## Use

The layers differ in size, so the folder brings its own modelling code, `modeling_prunecast.py`: read it, then allow it.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or the id it is published under
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)  # this needs none of it
inputs = tokenizer("The river", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```

It loads in transformers {OLDEST} or newer ({version("transformers")} has compared it with the measured model) and in
programs that load models through transformers. {vllm} Runtimes with model code of their own, such as SGLang,
TensorRT-LLM, MLX and llama.cpp, build stock architectures only and do not load this folder.

## Results

{_table(card)}

{markdown(card.protocol)}

## Architecture

KV groups x query heads per group + MLP width of each layer, `*` for equal neighbours, 0 for a component that is gone:

    {architecture}

`architecture.json` holds the same for programs, `prunecast_spec.yaml` the spec that led here.
"""


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
