"""Export to a folder that ``AutoModelForCausalLM.from_pretrained`` loads, without prunecast."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import Field

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import Component
from prunecast.architecture.shape import ModelShape
from prunecast.errors import ExportError
from prunecast.export.comparison import Expected, expected_of, perplexity
from prunecast.export.stand_ins import stand_ins_note, vllm_support, with_stand_ins
from prunecast.models.families.family import EXPORTED, Family
from prunecast.models.families.layer_parts import KEPT_HEADS
from prunecast.models.families.quiet import quiet_transformers
from prunecast.models.families.sizes import model_without_weights
from prunecast.models.families.windows import context_of
from prunecast.models.pruned.classes import MODELING, as_stock, base_type, stock_types, write_code
from prunecast.models.pruned.lineage import ENTRY, Lineage, lineage_to_json
from prunecast.models.source import GENERATION_FILE
from prunecast.plugins.exporter import Exporter, Limits, Parity, PrunedModel, Reference, Written
from prunecast.plugins.interfaces import PluginOptions

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig

WEIGHTS_FILE = "model.safetensors"
PARITY = Path(__file__).with_name("parity.py")

TRANSFORMERS_FILES = (
    *(MODELING.name, "config.json", GENERATION_FILE, "model.safetensors*", "adapter_config.json"),
    *("*token*.json", "*.model", "vocab.*", "merges.txt", "chat_template*", "additional_chat_templates"),
)
"""Names of the files of a folder, and of all other files that transformers would read there."""

OF_FILES = ("quantization_config", "transformers_weights")
"""Entries of configs that belong to the files of the dense model."""

PROBE_SHAPE = (4, 64)
"""Rows and tokens, (B, T), of the token ids whose logits are compared."""

PROBE_MARGIN = 8
"""Positions of the model's context left free for generated tokens."""


_LOADING = """\
The layers differ in size, so the folder brings its own modelling code, `modeling_prunecast.py`: read it, then allow it.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or the id it is published under
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)  # this needs none of it
inputs = tokenizer("The river", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```

It loads in transformers 5.16.1 or newer and in programs that load models through transformers. {vllm}
Runtimes with model code of their own, such as SGLang, TensorRT-LLM, MLX and llama.cpp, build stock architectures only
and do not load it; for llama.cpp there is the target `gguf`, for stock classes the target `stock`.
"""


class HuggingFaceOptions(PluginOptions):
    """Options of the exporter of Hugging Face folders."""

    stand_ins: bool = Field(
        default=False,
        description="write an attention of zeros, one KV group with one query head, in place of each removed one: vLLM "
        "needs an attention in every layer; its parameters and its part of the KV cache count",
    )


class HuggingFace(Exporter[HuggingFaceOptions]):
    """A folder that ``AutoModelForCausalLM.from_pretrained`` loads, with modelling code of its own.

    It can express every architecture.
    """

    options_model = HuggingFaceOptions
    entry = "config.json"
    reserved = TRANSFORMERS_FILES

    def limits(self, config: "PreTrainedConfig", family: Family, shape: ModelShape) -> Limits:
        """No limits."""
        return Limits()

    def write(self, model: PrunedModel, folder: Path) -> Written:
        """Write tokenizer, generation settings, config, modelling code and weights."""
        config, family, state, architecture = model.config, model.family, model.state, model.architecture
        if self.options.stand_ins:
            state, architecture = with_stand_ins(config, family, state, architecture)
        weights = stored_weights(config, family, state)
        write_tokenizer(folder, model)
        write_model(folder, config, family, weights, architecture, model.lineage)
        loading = _LOADING.format(vllm=vllm_support(base_type(config, family), architecture))
        notes = stand_ins_note(model.architecture, architecture)
        return Written(count_parameters(config, weights), loading, notes, library="transformers")

    def verify(self, model: PrunedModel, folder: Path, reference: Reference) -> Parity:
        """Compare the folder in transformers with the measured model."""
        return verify_folder(folder, model.config, reference)


def stored_weights(config: "PreTrainedConfig", family: Family, state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Contents of the weights file: the state without a tied output embedding and with biases in all layers or none.

    Tied embeddings are left out as in ``save_pretrained``. A bias that only some layers have is zero in the others.

    Args:
        config: config of the dense model.
        family: description of its family.
        state: weights of the pruned model under the stock parameter names, sliced.
    """
    tied = stock_types(config)[1]._tied_weights_keys if config.tie_word_embeddings else ()
    weights = {name: tensor.detach() for name, tensor in state.items() if name not in tied}
    for projection in _biased(family, weights):
        for name in [name for name in weights if name.endswith(f".{projection}.weight")]:
            bias = f"{name.removesuffix('weight')}bias"
            weights.setdefault(bias, weights[name].new_zeros(config.hidden_size))
    return weights


def biased_outputs(family: Family, weights: "Mapping[str, Tensor]") -> list[Component]:
    """Components whose projection back into the residual stream has a bias in at least one layer."""
    return [
        component
        for component, name in family.outputs.items()
        if any(weight.endswith(f".{name}.bias") for weight in weights)
    ]


def _biased(family: Family, weights: "Mapping[str, Tensor]") -> list[str]:
    return [family.outputs[component] for component in biased_outputs(family, weights)]


def count_parameters(config: "PreTrainedConfig", weights: "Mapping[str, Tensor]") -> int:
    """Number of parameters; buffers that are stored with them do not count."""
    buffers = {name for name, _ in model_without_weights(as_stock(config)).named_buffers()}
    return sum(
        tensor.numel()
        for name, tensor in weights.items()
        if name not in buffers and not name.endswith(f".{KEPT_HEADS}")
    )


def write_tokenizer(folder: Path, model: PrunedModel) -> None:
    """Write the tokenizer, and the generation settings: a copy of their file or, without one, those of the config."""
    from transformers import GenerationConfig

    with _disk_errors():
        model.tokenizer.save_pretrained(folder)
    source = model.source.generation_file
    if source is None:
        GenerationConfig.from_model_config(model.config).save_pretrained(folder)
    else:  # copied unchanged, as transformers refuses to write some settings that it reads
        shutil.copyfile(source, folder / GENERATION_FILE)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Turn errors of safetensors and tokenizers, which raise no OSError if a disk cannot be written, into OSErrors."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error
    except Exception as error:
        if type(error) is Exception:
            raise OSError(str(error)) from error
        raise


def write_model(
    folder: Path,
    config: "PreTrainedConfig",
    family: Family,
    weights: "Mapping[str, Tensor]",
    architecture: Architecture,
    lineage: Lineage = (),
) -> None:
    """Write config, modelling code and weights, from which transformers can load a pruned model.

    Args:
        folder: an existing folder.
        config: config of the dense model.
        family: description of its family.
        weights: result of :func:`stored_weights` for the pruned model.
        architecture: sizes that each layer keeps.
        lineage: the models that it was made from by pruning, the original first.
    """
    content = _config_json(config, family, weights, architecture)
    config_json = json.dumps(content | {ENTRY: lineage_to_json(lineage)} if lineage else content, indent=2)
    _write_text(folder / "config.json", config_json + "\n")
    write_code(folder, config, family)
    save_weights(folder, weights)


def save_weights(folder: Path, weights: "Mapping[str, Tensor]") -> None:
    """Write the weights file of a folder."""
    from safetensors.torch import save_file

    owned = {name: _owned(tensor) for name, tensor in weights.items()}
    with _disk_errors():
        save_file(owned, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")


def _owned(tensor: "Tensor") -> "Tensor":
    """The tensor on the CPU, contiguous and with a storage of its own, as safetensors requires."""
    tensor = tensor.cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _config_json(
    config: "PreTrainedConfig", family: Family, weights: "Mapping[str, Tensor]", architecture: Architecture
) -> dict[str, Any]:
    """The dense config with the sizes of each layer, under a model type that transformers maps to no stock class.

    The sizes are listed for every layer, and cannot be read as global attributes: a stock class that is forced to load
    this config fails instead of building dense layers with random weights.
    """
    pruned = config.to_diff_dict()
    for entry in OF_FILES:
        pruned.pop(entry, None)
    configuration, model = stock_types(config)
    classes = {"AutoConfig": configuration, "AutoModel": base_type(config, family), "AutoModelForCausalLM": model}
    layers = enumerate(architecture.layers)
    return pruned | {
        "architectures": [f"Pruned{model.__name__}"],
        "auto_map": {auto: f"{MODELING.stem}.Pruned{stock.__name__}" for auto, stock in classes.items() if stock},
        "dtype": str(_common_dtype(weights)).removeprefix("torch."),
        **with_head_dim(config),
        "model_type": f"{EXPORTED}{config.model_type.removeprefix(EXPORTED)}",
        "num_hidden_layers": config.num_hidden_layers,
        "output_bias": _biased(family, weights),
        "per_layer_config": {str(index): family.entries_of(layer) for index, layer in layers},
        "serialize_explicit_per_layer_config": True,
    }


def head_dim_of(config: "PreTrainedConfig") -> int:
    """Width of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def with_head_dim(config: "PreTrainedConfig") -> dict[str, int]:
    """Entry of the width of a head, which configs else compute from a number of heads; empty if it has no setter."""
    if isinstance(getattr(type(config), "head_dim", None), property):
        return {}
    return {"head_dim": head_dim_of(config)}


def _common_dtype(weights: "Mapping[str, Tensor]") -> "torch.dtype":
    """Narrowest dtype to which all weights can be promoted."""
    import torch

    return reduce(torch.promote_types, (tensor.dtype for tensor in weights.values() if tensor.is_floating_point()))


def verify_folder(folder: Path, config: "PreTrainedConfig", reference: Reference) -> Parity:
    """Compare a folder in transformers, in a fresh process without prunecast, with the measured model.

    Args:
        folder: the folder.
        config: config of the dense model.
        reference: the measured model.

    Raises:
        ExportError: the folder does not load, or its logits are not those of the measured model.
    """
    import torch
    from safetensors.torch import save_file

    batch, length = PROBE_SHAPE
    length = max(2, min(length, context_of(config) - PROBE_MARGIN))
    tokens = torch.randint(0, config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = reference.logits(tokens).float().cpu()
    expected = expected_of(reference)
    with TemporaryDirectory() as scratch:
        probe = Path(scratch, "probe.safetensors")
        save_file({"input_ids": tokens, "logits": _owned(logits), **_text_probe(expected)}, probe)
        found = _compared(folder, probe, Path(scratch, "modules"))
    values = [] if expected is None else [value for window in expected.of_tokens for value in window]
    return Parity(
        engine=f"transformers {found['version']}",
        compared=f"logits of {batch * length} tokens",
        max_difference=float(found["max_logit_difference"]),
        **({"reference_perplexity": perplexity(values), "tokens": len(values), **found["text"]} if values else {}),
        load_seconds=found["load_seconds"],
    )


def _text_probe(expected: Expected | None) -> "dict[str, Tensor]":
    """The windows, a prompt and its greedy continuation; empty without a text."""
    import torch

    if expected is None:
        return {}
    parts = {"windows": expected.windows, "prompt": expected.prompt, "greedy": expected.greedy}
    return {name: torch.tensor(part) for name, part in parts.items()}


def _compared(folder: Path, probe: Path, modules: Path) -> dict[str, Any]:
    """Output of the script that compares a folder with a probe."""
    outcome = subprocess.run(
        [sys.executable, "-P", str(PARITY), str(folder), str(probe)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(modules)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if outcome.returncode != 0:
        cause = (outcome.stderr.strip() or f"exit code {outcome.returncode}").splitlines()[-1]
        raise ExportError(f"the exported model does not load: {cause}; nothing was kept")
    found: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])
    if found["problems"]:
        raise ExportError(
            f"the exported model is not the measured one: {'; '.join(found['problems'])}; nothing was kept"
        )
    return found


def continue_text(folder: str, prompt: str, tokens: int = 24) -> str:
    """The prompt with its greedy continuation by the model in ``folder``, loaded as users load it.

    The folder's own modelling code is run, which prunecast has just written there. Of the model's generation settings
    only the tokens that end a text are used.
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
