"""Adapters of PEFT beside or in place of a model's weights: transformers would load them on top, unmerged."""

from pathlib import Path

from prunecast.errors import ModelError
from prunecast.models.checkpoint import read_json

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")


def check_merged(folder: Path, name: str) -> None:
    """Raise ModelError if an adapter lies in a folder; the message ends in the Python code that merges it.

    Args:
        folder: a local folder, or the snapshot of a Hub model.
        name: name of the model, for messages.
    """
    found = next((file for file in (_CONFIG, *_WEIGHTS) if (folder / file).is_file()), None)
    if found is None:
        return
    if found != _CONFIG:
        raise ModelError(
            f"model {name}: an adapter lies in its folder ({found}), without {_CONFIG}: remove it, or merge it first"
        )
    merged, beside = f"{folder.name}-merged", _has_weights(folder)
    already = f" (or delete {found}, if the weights beside it have it already)" if beside else ""
    raise ModelError(
        f"model {name}: an adapter lies in its folder ({found}): merge it first{already}, and take {merged} as the "
        f"model; in Python: {_merging(folder, merged, beside)}"
    )


def _has_weights(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in ("model*.safetensors", "pytorch_model*.bin"))


def _merging(folder: Path, merged: str, beside: bool) -> str:
    """Python code that merges the adapter in ``folder`` into its base model, and saves the result as ``merged``.

    The base model is that ``beside`` it, else the one that the adapter's config names.
    """
    adapter, base = str(folder), str(read_json(folder / _CONFIG).get("base_model_name_or_path") or "BASE")
    options = ""
    if beside:
        # Looked for in another folder, the adapter is not loaded with the weights.
        base, options = adapter, ", adapter_kwargs={'subfolder': 'none'}"
    tokenizer = adapter if (folder / "tokenizer_config.json").is_file() else base
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer; from peft import PeftModel; "
        f"model = AutoModelForCausalLM.from_pretrained({base!r}{options}); "
        f"PeftModel.from_pretrained(model, {adapter!r}).merge_and_unload().save_pretrained({merged!r}); "
        f"AutoTokenizer.from_pretrained({tokenizer!r}).save_pretrained({merged!r})"
    )
