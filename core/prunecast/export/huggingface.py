"""Export to a folder that ``AutoModelForCausalLM.from_pretrained`` loads, without prunecast."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import ExportError
from prunecast.export.card import CardContent, render_card
from prunecast.export.stand_ins import vllm_told, with_stand_ins
from prunecast.models.families.family import EXPORTED, Family
from prunecast.models.families.layer_parts import KEPT_HEADS
from prunecast.models.families.sizes import model_without_weights
from prunecast.models.families.windows import context_of
from prunecast.models.pruned.classes import MODELING, as_stock, base_type, stock_types, write_code
from prunecast.models.pruned.lineage import ENTRY, Lineage, lineage_to_json
from prunecast.models.source import GENERATION_FILE
from prunecast.owned.folder import FolderKind, OwnedFolder
from prunecast.owned.manifest import Manifest, Origin

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

ARCHITECTURE_FILE = "architecture.json"
WEIGHTS_FILE = "model.safetensors"
SPEC_FILE = "prunecast_spec.yaml"
PARITY = Path(__file__).with_name("parity.py")

EXPORT = FolderKind(
    noun="export",
    manifest="prunecast_export.json",
    entry="config.json",
    documents=frozenset({"README.md"}),
    reserved=(
        *("prunecast_export.json", SPEC_FILE, ARCHITECTURE_FILE, MODELING.name, "README.md"),
        *("config.json", GENERATION_FILE, "model.safetensors*", "adapter_config.json"),
        *("*token*.json", "*.model", "vocab.*", "merges.txt", "chat_template*", "additional_chat_templates"),
    ),
)
"""An export: the names of its files, and of all that transformers would read beside them."""

NO_ORIGIN = Origin()
"""Origin of a model of no run."""

PROBE_SHAPE = (4, 64)
"""Rows and tokens, (B, T), of the token ids whose logits are compared."""

PROBE_MARGIN = 8
"""Positions of the model's context left free for generated tokens."""


@dataclass(frozen=True)
class ExportReport:
    """Report of an export.

    Attributes:
        folder: the exported folder, absolute.
        parameters: number of parameters in the weights file; tied embeddings count once.
        bytes: size of all files of the export.
        max_logit_difference: largest absolute difference between the logits of the measured model and those of the
            exported folder, loaded in a fresh process without prunecast.
        files: names of all files of the export, sorted; files of others in the folder are not listed.
        unchanged: True if the folder held the same export already, so that nothing was written.
    """

    folder: Path
    parameters: int
    bytes: int
    max_logit_difference: float
    files: tuple[str, ...]
    unchanged: bool = False

    @classmethod
    def of(cls, folder: Path, manifest: Manifest, unchanged: bool) -> Self:
        """The report of the export that a folder holds."""
        files = sorted([*manifest.files, EXPORT.manifest])
        return cls(
            folder=folder,
            parameters=manifest.facts["parameters"],
            bytes=sum((folder / name).stat().st_size for name in files),
            max_logit_difference=manifest.facts["max_logit_difference"],
            files=tuple(files),
            unchanged=unchanged,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "folder": str(self.folder), "files": list(self.files)}


def export_huggingface(
    config: "PreTrainedConfig",
    family: Family,
    state: "Mapping[str, Tensor]",
    architecture: Architecture,
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    card: CardContent,
    reference: "Callable[[Tensor], Tensor]",
    generation: Path | None = None,
    origin: Origin = NO_ORIGIN,
    overwrite: bool = False,
    lineage: Lineage = (),
    stand_ins: bool = False,
) -> ExportReport:
    """Write a pruned model, and verify in a fresh process that the written model is the measured one.

    The export is written completely or not at all. Files of others in the folder stay; those of an earlier export of
    the same subject are replaced where they differ.

    Args:
        config: config of the dense model; it is not changed.
        family: description of its family, as settled for this config.
        state: weights of the pruned model under the stock parameter names, sliced; removed components and their norms
            have no entries. Written bit by bit, in their own dtypes. If an output or down projection has a bias in one
            layer, every layer with this projection gets a bias, of zeros if ``state`` has none.
        architecture: sizes that each layer keeps, matching ``state``.
        tokenizer: tokenizer to save with the model.
        folder: folder to write, absolute.
        card: contents of the model card.
        reference: returns the logits (B, T, V) of the measured model for int64 ``input_ids`` (B, T) on the CPU,
            computed in float32 whatever the dtype of ``state``. Called once.
        generation: the dense model's ``generation_config.json``, to be copied; for a chat model it holds the tokens
            that end a reply. None to derive it from ``config``.
        origin: origin of the model; the architecture is added to its subject.
        overwrite: True allows an export of another subject, and files of an export edited since, to be replaced.
        lineage: the models it is made from, the original first, the dense model last.
        stand_ins: True to write an attention of zeros in place of each one that is removed, which vLLM needs; see
            :func:`prunecast.export.stand_ins.with_stand_ins`. They count among the parameters of the report.

    Raises:
        ExportError: files are in the way, the disk is full, or the written model does not load, or does not return the
            logits of the measured one. The folder is as it was before.
    """
    written = architecture
    if stand_ins:
        state, written = with_stand_ins(config, family, state, architecture)
    weights = stored_weights(config, family, state)
    target = OwnedFolder(EXPORT, folder)
    origin = of_architecture(origin, architecture)
    target.check(origin, overwrite)
    target.check_room(origin, sum(tensor.nbytes for tensor in weights.values()))
    with target.staged() as staged:
        with _disk_errors():
            _write(staged.path, config, family, weights, (architecture, written), tokenizer, card, lineage)
        _write_generation(staged.path, config, generation)
        difference = _verify(staged.path, config, reference)
        facts = {"parameters": _count(config, weights), "max_logit_difference": difference}
        manifest, changed = staged.publish(origin, facts, overwrite)
    return ExportReport.of(folder, manifest, unchanged=not changed)


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise as an OSError what safetensors and tokenizers, written in Rust, raise for a disk that cannot be written."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(str(error)) from error
    except Exception as error:
        if type(error) is Exception:
            raise OSError(str(error)) from error
        raise


def of_architecture(origin: Origin, architecture: Architecture) -> Origin:
    """The origin with an architecture as a part of its subject."""
    return replace(origin, subject={**origin.subject, "architecture": str(architecture)})


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
    for projection in _with_bias(family, weights):
        for name in [name for name in weights if name.endswith(f".{projection}.weight")]:
            bias = f"{name.removesuffix('weight')}bias"
            weights.setdefault(bias, weights[name].new_zeros(config.hidden_size))
    return weights


def _with_bias(family: Family, weights: "Mapping[str, Tensor]") -> list[str]:
    """Names of the projections back into the residual stream that have a bias in at least one layer."""
    back = (family.output, family.down)
    return [name for name in back if any(weight.endswith(f".{name}.bias") for weight in weights)]


def _count(config: "PreTrainedConfig", weights: "Mapping[str, Tensor]") -> int:
    """Number of parameters; buffers that are stored with them do not count."""
    buffers = {name for name, _ in model_without_weights(as_stock(config)).named_buffers()}
    return sum(
        tensor.numel()
        for name, tensor in weights.items()
        if name not in buffers and not name.endswith(f".{KEPT_HEADS}")
    )


def _write(
    folder: Path,
    config: "PreTrainedConfig",
    family: Family,
    weights: "Mapping[str, Tensor]",
    architectures: tuple[Architecture, Architecture],
    tokenizer: "PreTrainedTokenizerBase",
    card: CardContent,
    lineage: Lineage,
) -> None:
    """Write all files but one; ``architectures`` are that of the model, and that with its stand-ins."""
    tokenizer.save_pretrained(folder)
    architecture, written = architectures
    vllm = vllm_told(base_type(config, family), architecture, written)
    texts = {
        ARCHITECTURE_FILE: architecture.to_json() + "\n",
        SPEC_FILE: card.spec_text,
        "README.md": render_card(card, architecture, _count(config, weights), vllm),
    }
    for name, text in texts.items():
        _write_text(folder / name, text)
    write_model(folder, config, family, weights, written, lineage)


def _write_generation(folder: Path, config: "PreTrainedConfig", source: Path | None) -> None:
    from transformers import GenerationConfig

    if source is None:
        GenerationConfig.from_model_config(config).save_pretrained(folder)
    else:  # copied unchanged, as transformers refuses to write some settings that it reads
        shutil.copyfile(source, folder / GENERATION_FILE)


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
        lineage: the models it is made from, the original first.
    """
    from safetensors.torch import save_file

    content = _config_json(config, family, weights, architecture)
    config_json = json.dumps(content | {ENTRY: lineage_to_json(lineage)} if lineage else content, indent=2)
    _write_text(folder / "config.json", config_json + "\n")
    write_code(folder, config, family)
    owned = {name: _owned(tensor) for name, tensor in weights.items()}
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
    for entry in ("quantization_config", "transformers_weights"):  # of the dense model's files
        pruned.pop(entry, None)
    configuration, model = stock_types(config)
    classes = {"AutoConfig": configuration, "AutoModel": base_type(config, family), "AutoModelForCausalLM": model}
    layers = enumerate(architecture.layers)
    return pruned | {
        "architectures": [f"Pruned{model.__name__}"],
        "auto_map": {auto: f"{MODELING.stem}.Pruned{stock.__name__}" for auto, stock in classes.items() if stock},
        "dtype": str(_common_dtype(weights)).removeprefix("torch."),
        **_head_dim(config),
        "model_type": f"{EXPORTED}{config.model_type.removeprefix(EXPORTED)}",
        "num_hidden_layers": config.num_hidden_layers,
        "output_bias": _with_bias(family, weights),
        "per_layer_config": {str(index): _layer_sizes(family, layer) for index, layer in layers},
        "serialize_explicit_per_layer_config": True,
    }


def _head_dim(config: "PreTrainedConfig") -> dict[str, int]:
    """Entry of the width of a head, for configs that would divide by a number of heads; empty if it has no setter."""
    if isinstance(getattr(type(config), "head_dim", None), property):
        return {}
    return {"head_dim": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads}


def _layer_sizes(family: Family, layer: Layer) -> dict[str, int]:
    sizes = {family.heads_attribute: layer.query_heads, family.width_attribute: layer.mlp_width}
    return sizes if family.groups_attribute is None else sizes | {family.groups_attribute: layer.kv_groups}


def _common_dtype(weights: "Mapping[str, Tensor]") -> "torch.dtype":
    """Narrowest dtype to which all weights can be promoted."""
    import torch

    return reduce(torch.promote_types, (tensor.dtype for tensor in weights.values() if tensor.is_floating_point()))


def _verify(folder: Path, config: "PreTrainedConfig", reference: "Callable[[Tensor], Tensor]") -> float:
    """Compare a folder with the measured model in a fresh process; returns the largest logit difference.

    Raises:
        ExportError: the folder does not load, or its logits are not those of ``reference``.
    """
    import torch
    from safetensors.torch import save_file

    batch, length = PROBE_SHAPE
    length = max(2, min(length, context_of(config) - PROBE_MARGIN))
    tokens = torch.randint(0, config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = reference(tokens).float().cpu()
    with TemporaryDirectory() as scratch:
        probe = Path(scratch, "probe.safetensors")
        save_file({"input_ids": tokens, "logits": _owned(logits)}, probe)
        outcome = subprocess.run(
            [sys.executable, "-P", str(PARITY), str(folder), str(probe)],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(Path(scratch, "modules"))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if outcome.returncode != 0:
        cause = (outcome.stderr.strip() or f"exit code {outcome.returncode}").splitlines()[-1]
        raise ExportError(f"the exported model does not load: {cause}; nothing was kept")
    found = json.loads(outcome.stdout.splitlines()[-1])
    if found["problems"]:
        raise ExportError(
            f"the exported model is not the measured one: {'; '.join(found['problems'])}; nothing was kept"
        )
    return float(found["max_logit_difference"])
