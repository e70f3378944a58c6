"""Checkpoint folders: the files that hold the weights, their headers, and damage that is reported with its cause.

The files are those that transformers loads by itself: the one that the config names under ``transformers_weights``,
else ``model.safetensors`` or the shards of its index, else ``pytorch_model.bin`` or the shards of its index, else the
same under the name of a variant (``model.fp16.safetensors``).
"""

import json
import re
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError, one_line

if TYPE_CHECKING:
    from torch import Tensor

_SAFETENSORS, _PICKLE = "model.safetensors", "pytorch_model.bin"
_VARIANTS = (
    (_SAFETENSORS, re.compile(r"model\.([\w-]+)\.safetensors|model\.safetensors\.index\.([\w-]+)\.json")),
    (_PICKLE, re.compile(r"pytorch_model\.([\w-]+)\.bin|pytorch_model\.bin\.index\.([\w-]+)\.json")),
)

_SHARD = re.compile(r"-\d+-of-\d+$")

_POINTER = b"version https://git-lfs"
_ERROR_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<error", b"entry not found", b"repository not found", b"access to ")

_PICKLED_DTYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3"},
    **{"float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8"},
    "bool": "BOOL",
}
"""Storage types of safetensors by the torch dtype that a pickled checkpoint states."""


@dataclass(frozen=True)
class WeightFiles:
    """Files that the weights of a folder are loaded from.

    Attributes:
        files: the files, sorted.
        variant: variant that transformers has to be asked for; None for the usual names.
        pickled: True for ``.bin`` files of torch, False for safetensors.
    """

    files: tuple[Path, ...]
    variant: str | None = None
    pickled: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Options with which ``from_pretrained`` loads these files, and runs no code of a pickled one."""
        return {"variant": self.variant, "use_safetensors": not self.pickled, "weights_only": True}


@dataclass(frozen=True)
class StoredTensor:
    """Header of a stored tensor: its storage type, as safetensors names it (``BF16``), and its shape."""

    dtype: str
    shape: tuple[int, ...]


def weight_files(folder: Path) -> WeightFiles:
    """Files that transformers loads the weights of a folder from.

    Raises:
        ModelError: there are none, or several variants; a listed shard is missing, or outside the folder; a file is a
            git-lfs pointer or a saved error page.
    """
    found = _usual_files(folder) or _files_of_variant(folder)
    if found is None:
        raise ModelError(f"{folder}: no weights, {_instead_of_weights(folder)}")
    for file in found.files:
        check_content(file)
    return found


def _usual_files(folder: Path) -> WeightFiles | None:
    config = folder / "config.json"
    named = read_json(config).get("transformers_weights") if config.is_file() else None
    if isinstance(named, str) and (files := _files(folder, folder / named, folder / named)):
        return WeightFiles(files)
    for name in (_SAFETENSORS, _PICKLE):
        if files := _files(folder, folder / name, folder / f"{name}.index.json"):
            return WeightFiles(files, pickled=name == _PICKLE)
    return None


def _files_of_variant(folder: Path) -> WeightFiles | None:
    names = [file.name for file in folder.iterdir()]
    for name, pattern in _VARIANTS:
        found = (next(filter(None, match.groups())) for match in map(pattern.fullmatch, names) if match)
        variants = sorted({variant for variant in found if not _SHARD.search(variant)})
        if len(variants) > 1:
            raise ModelError(
                f"{folder}: the weights are there as {' and as '.join(variants)}, and none is named {name}: "
                f"rename the one to prune to {name}, or leave only one in the folder"
            )
        for variant in variants:
            stem, suffix = name.rsplit(".", 1)
            index = folder / f"{name}.index.{variant}.json"
            if files := _files(folder, folder / f"{stem}.{variant}.{suffix}", index):
                return WeightFiles(files, variant, name == _PICKLE)
    return None


def _files(folder: Path, whole: Path, index: Path) -> tuple[Path, ...]:
    """The file itself, else the shards that its index lists, else nothing."""
    if whole.is_file() and whole.suffix != ".json":
        return (whole,)
    if not index.is_file():
        return ()
    check_content(index)
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(shard, str) for shard in listed.values()):
        raise ModelError(f"{index}: lists no shards under weight_map; download it again")
    shards = sorted(set(listed.values()))
    for shard in shards:
        if Path(shard).is_absolute() or ".." in Path(shard).parts:
            raise ModelError(f"{index}: names {shard}, which lies outside the folder; download it again")
        if not (folder / shard).is_file():
            raise ModelError(f"{folder / shard}: no such file, though {index.name} names it; complete the download")
    return tuple(folder / shard for shard in shards)


def _instead_of_weights(folder: Path) -> str:
    """Words on what stands in a folder in place of weights that can be loaded, and what to do."""
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    if shards:
        return f"{_SAFETENSORS}.index.json is missing, which names shards such as {shards[0].name}; download it again"
    if ggufs := sorted(file.name for file in folder.iterdir() if file.suffix.lower() == ".gguf"):
        return f"but {ggufs[0]}: name that file as the model"
    foreign = [file.name for file in sorted(folder.iterdir()) if file.suffix in (".h5", ".msgpack", ".pth", ".pt")]
    if foreign:
        return f"but {foreign[0]}, which transformers does not load: save the model as safetensors with save_pretrained"
    return f"{_SAFETENSORS} or its index is missing; save the model as safetensors"


def stored_tensors(weights: WeightFiles) -> dict[str, StoredTensor]:
    """Headers of all stored tensors by name; no data is read from safetensors.

    Raises:
        ModelError: a file is damaged, or a pickled one holds more than tensors.
    """
    found: dict[str, StoredTensor] = {}
    for file in weights.files:
        if weights.pickled:
            found |= {name: _header(tensor) for name, tensor in _open_pickled(file).items()}
            continue
        with open_safetensors(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118
                stored = tensors.get_slice(name)
                found[name] = StoredTensor(stored.get_dtype(), tuple(stored.get_shape()))
    return found


def read_tensors(
    weights: WeightFiles, wanted: Collection[str] | None = None
) -> "Iterator[tuple[str, StoredTensor, Tensor]]":
    """Stored tensors with their names and headers, one at a time.

    Args:
        weights: the files.
        wanted: names of those to read; None for all.

    Raises:
        ModelError: as :func:`stored_tensors`.
    """
    for file in weights.files:
        if weights.pickled:
            for name, tensor in _open_pickled(file).items():
                if wanted is None or name in wanted:
                    yield name, _header(tensor), tensor.contiguous()
            continue
        with open_safetensors(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if wanted is None or name in wanted:
                    stored = tensors.get_slice(name)
                    yield name, StoredTensor(stored.get_dtype(), tuple(stored.get_shape())), tensors.get_tensor(name)


def open_safetensors(path: Path) -> Any:
    """An open ``safe_open``. Raises ModelError if the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        reason = _cut_off(path) or one_line(error)
        raise ModelError(f"{path}: not a readable safetensors file ({reason}); download it again") from error


def _cut_off(path: Path) -> str | None:
    """Words on a safetensors file that ends before its last tensor; None if that is not what is wrong with it."""
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length < path.stat().st_size else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (struct.error, ValueError, KeyError, TypeError, AttributeError):
            return None
    size, whole = path.stat().st_size, 8 + length + max(ends, default=0)
    return f"cut off: {size:,} of {whole:,} bytes" if ends and size < whole else None


def _open_pickled(path: Path) -> "dict[str, Tensor]":
    """Tensors of a ``.bin`` file, mapped from disk where its format allows; nothing else in it is unpickled."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    # Besides UnpicklingError, damage raises EOFError, RuntimeError, KeyError and more.
    except Exception as error:
        reason = "it holds more than tensors" if "weights_only" in str(error) else one_line(error)
        raise ModelError(
            f"{path}: cannot be read without running code from it ({reason}); load it where you trust it, and save it "
            "as safetensors with save_pretrained"
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise ModelError(f"{path}: tensors by name are expected; save the model as safetensors with save_pretrained")
    return {str(name): tensor for name, tensor in content.items()}


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _header(tensor: "Tensor") -> StoredTensor:
    name = str(tensor.dtype).removeprefix("torch.")
    return StoredTensor(_PICKLED_DTYPES.get(name, name), tuple(tensor.shape))


def check_content(path: Path) -> None:
    """Raise ModelError if a git-lfs pointer or a saved error page stands where a file of the model should be."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({one_line(error)}); correct its permissions") from error
    if start.startswith(_POINTER):
        raise ModelError(
            f"{path}: a git-lfs pointer stands in place of the file: fetch it with `git lfs pull`, or download it again"
        )
    if start.lstrip().lower().startswith(_ERROR_PAGES):
        raise ModelError(f"{path}: an error page was saved in place of the file: download it again")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelError if the file is not readable or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise ModelError(f"{path}: cannot be read ({reason}); check that it exists and that you may read it") from error
    except ValueError as error:
        raise ModelError(f"{path}: not readable as JSON ({one_line(error)}); replace it") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a JSON object is expected; replace it")
    return content
