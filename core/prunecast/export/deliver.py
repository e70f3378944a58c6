"""Delivery: the chosen architecture as a model that loads without prunecast."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.export.card import CardContent
from prunecast.export.huggingface import ExportReport, export_huggingface
from prunecast.models.families.family import Family
from prunecast.models.loading import quiet_transformers
from prunecast.models.pruned.lineage import Lineage
from prunecast.models.source import ModelSource
from prunecast.owned.manifest import Origin

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from prunecast.models.elastic import ElasticModel


@dataclass(frozen=True)
class Deliverable:
    """A model to write.

    Attributes:
        model: the measured model, in the dtype it was measured in.
        state: its weights under the stock names, sliced.
        architecture: what it keeps.
    """

    model: "PreTrainedModel"
    state: "Mapping[str, Tensor]"
    architecture: Architecture

    @classmethod
    def of(cls, elastic: "ElasticModel", architecture: Architecture) -> "Deliverable":
        """An architecture of the elastic model, which is left there."""
        elastic.apply(architecture)
        return cls(elastic.model, elastic.state_dict(), architecture)


def deliver(
    source: ModelSource,
    family: Family,
    tokenizer: "PreTrainedTokenizerBase",
    dtype: "torch.dtype",
    chosen: Deliverable,
    card: CardContent,
    folder: Path,
    origin: Origin,
    overwrite: bool,
    lineage: Lineage,
) -> ExportReport:
    """Write a model as a Hugging Face folder, in the number format it was measured in.

    The folder's logits are compared with those of the measured model in float32, to which both are widened without
    loss: in bfloat16 two orders of summation already differ visibly.

    Args:
        source: files of the dense model.
        family: description of its family.
        tokenizer: its tokenizer.
        dtype: number format that the model was measured in.
        chosen: the model to write.
        card: content of the model card.
        folder: destination, absolute.
        origin: origin of the model, the architecture left out.
        overwrite: True allows another export, or an edited one, to be replaced.
        lineage: the models it is made from, the original first, the dense model last.

    Raises:
        ExportError: it cannot be written, or does not load as what was measured.
    """
    import torch

    from prunecast.models.elastic import convert_parameters

    def reference(tokens: "Tensor") -> "Tensor":
        logits: Tensor = chosen.model(tokens.to(chosen.model.device), use_cache=False).logits
        return logits

    convert_parameters(chosen.model, torch.float32)
    try:
        return export_huggingface(
            source.config(),
            family,
            chosen.state,
            chosen.architecture,
            tokenizer,
            folder,
            card,
            reference,
            source.generation_file,
            origin,
            overwrite,
            lineage,
        )
    finally:
        convert_parameters(chosen.model, dtype)


def continue_text(folder: str, prompt: str, tokens: int = 24) -> str:
    """The prompt with its greedy continuation by the model in ``folder``, loaded as anyone would load it.

    The folder's own modelling code is run, which prunecast has just written there. Of the model's generation settings
    only the tokens that end a text count.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=0,
        do_sample=False,
        repetition_penalty=1.3,
        max_new_tokens=tokens,
    )
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        output = model.generate(**inputs)
    return " ".join(str(tokenizer.decode(output[0], skip_special_tokens=True)).split())
