"""Adapters of PEFT in a model's folder, which transformers would load on top of the weights without merging them."""

from pathlib import Path

from prunecast.errors import ModelError
from prunecast.models.checkpoint import read_json

_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")


def check_merged(folder: Path, name: str) -> None:
    """Raise ModelError if a folder holds an adapter.

    With its config there, the message ends in Python code that merges it.

    Args:
        folder: a local folder, or the snapshot of a Hub model.
        name: name of the model, for messages.
    """
    found = [file for file in (_CONFIG, *_WEIGHTS) if (folder / file).is_file()]
    if not found:
        return
    files = ", ".join(found)
    if _CONFIG not in found:
        raise ModelError(
            f"model {name}: its folder holds the weights of an adapter ({files}) without {_CONFIG}: delete them, or "
            "restore that file and merge the adapter"
        )
    target, beside = f"{folder.name}-merged", _has_weights(folder)
    already = f" (or delete {files}, if the weights in this folder already include the adapter)" if beside else ""
    raise ModelError(
        f"model {name}: an adapter lies in its folder ({files}): merge it first{already}, and take {target} as the "
        f"model; in Python: {_merging(folder, target, beside)}"
    )


def _has_weights(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in ("model*.safetensors", "pytorch_model*.bin"))


def _merging(folder: Path, target: str, beside: bool) -> str:
    """Python code that merges the adapter in ``folder`` into its base model, and saves the result as ``target``.

    The base model is the one in the same folder if ``beside``, else the one that the adapter's config names.
    """
    adapter, base = str(folder), str(read_json(folder / _CONFIG).get("base_model_name_or_path") or "BASE")
    options = ""
    if beside:
        # transformers looks for the adapter in a subfolder that does not exist, and loads the weights alone.
        base, options = adapter, ", adapter_kwargs={'subfolder': 'none'}"
    tokenizer = adapter if (folder / "tokenizer_config.json").is_file() else base
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer; from peft import PeftModel; "
        f"model = AutoModelForCausalLM.from_pretrained({base!r}{options}); "
        f"PeftModel.from_pretrained(model, {adapter!r}).merge_and_unload().save_pretrained({target!r}); "
        f"AutoTokenizer.from_pretrained({tokenizer!r}).save_pretrained({target!r})"
    )
