"""Fingerprints: hashes of a model's config and weights.

A fingerprint depends on every config value that can affect the outputs, on the code that comes with the model, and on
the name, storage type, shape and bits of every tensor. It does not depend on the names of the weight files, their
division into shards, or the order of tensors.
"""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prunecast.cache import cache_dir
from prunecast.errors import ModelError, one_line
from prunecast.models.checkpoint import read_json, read_tensors, stored_tensors, weight_files
from prunecast.models.gguf_files import gguf_parts, readers
from prunecast.models.pruned.classes import is_exported
from prunecast.models.pruned.lineage import ENTRY
from prunecast.models.tokenizer import tokenizer_files
from prunecast.owned.files import written_whole

_SCHEME = 1
"""Version of the fingerprint, raised when the same model would get a different one."""

_VOLATILE = {"transformers_version", "_name_or_path", "_commit_hash", "torch_dtype", "dtype", ENTRY}
"""Config keys that do not affect the outputs of the model; the stored dtype is hashed with each tensor."""

TensorEntry = tuple[str, str, list[int], str]
"""Name, storage type, shape and digest of a stored tensor."""


def fingerprint(path: Path) -> str:
    """Hash of the config and weights of a model folder or a ``.gguf`` file, 32 hexadecimal digits.

    Tensors are read one at a time. The result is cached in the cache folder; it is valid as long as path, size,
    modification time and inode of every file stay the same.

    Raises:
        ModelError: no config or no weights, or a file is damaged.
    """
    return _cached(path, "fingerprint")


def tokenizer_digest(path: Path) -> str:
    """Hash of the tokenizer of a model folder or in a ``.gguf`` file, 32 hexadecimal digits.

    That of a folder covers the files from which transformers makes a tokenizer, its chat template included. That of a
    ``.gguf`` file is cached in the same way as its fingerprint.

    Raises:
        ModelError: the file is damaged.
    """
    if path.is_file():
        return _cached(path, "tokenizer")
    templates = (file for file in path.glob("chat_template*") if file.is_file())
    files = sorted({*tokenizer_files(path), *templates})
    return _digest(json.dumps({file.name: _digest(file.read_bytes()) for file in files}).encode())


def is_hashed(path: Path) -> bool:
    """True if the cache has the fingerprint of a ``.gguf`` file and the hash of its tokenizer: neither takes time.

    Raises:
        ModelError: a file of the model is missing.
    """
    return {"fingerprint", "tokenizer"} <= _known(path, _read_cache(_cache_file())).keys()


def count_parameters(path: Path) -> int:
    """Number of stored parameters of a model folder, read from the headers, or of a ``.gguf`` file.

    That of a ``.gguf`` file is cached in the same way as its fingerprint.

    Raises:
        ModelError: no weights, or a file is damaged.
    """
    if path.is_file():
        return int(_cached(path, "parameters"))
    return sum(math.prod(tensor.shape) for tensor in stored_tensors(weight_files(path)).values())


def _cached(path: Path, part: str) -> str:
    """What the cache has about a model; computed if there is nothing or the model's files have changed since."""
    cache = _read_cache(_cache_file())
    entry = _known(path, cache)
    if part not in entry:
        entry |= _compute(path)
        _write_cache(_cache_file(), cache | {_location(path): entry})
    return str(entry[part])


def _known(path: Path, cache: dict[str, Any]) -> dict[str, Any]:
    """What the cache has about a model, by part, beside the identities of its files now, for which it is valid."""
    files = _identities(path)
    entry: dict[str, Any] = cache.get(_location(path), {})
    return entry if entry.get("files") == files else {"files": files}


def _location(path: Path) -> str:
    return str(path.resolve())


def _cache_file() -> Path:
    return cache_dir() / "fingerprints.json"


def _compute(path: Path) -> dict[str, str]:
    """All that the cache keeps about a model. A ``.gguf`` file is read once: a long vocabulary takes seconds."""
    if not path.is_file():
        return {"fingerprint": _hash(_folder_config(path), _folder_entries(path))}
    opened = list(readers(path))
    return {
        "fingerprint": _hash(_gguf_config(opened[0]), (entry for reader in opened for entry in _gguf_entries(reader))),
        "tokenizer": _hash_of_tokenizer(opened[0]),
        "parameters": str(sum(int(tensor.n_elements) for reader in opened for tensor in reader.tensors)),
    }


def _hash(config: dict[str, Any], entries: Iterator[TensorEntry]) -> str:
    return _digest(json.dumps([_SCHEME, config, sorted(entries)], sort_keys=True, default=str).encode())


def _folder_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    # The outputs of a model with its own code depend on that code; that in an export is never run on it.
    coded = "auto_map" in config and not is_exported(config.get("model_type"))
    code = {file.name: _digest(file.read_bytes()) for file in folder.glob("*.py")} if coded else {}
    return {"config": _without_volatile(config), "code": code}


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_volatile(item) for key, item in value.items() if key not in _VOLATILE}
    return value


def _hash_of_tokenizer(reader: Any) -> str:
    return _digest(json.dumps(_gguf_fields(reader, "tokenizer."), sort_keys=True, default=str).encode())


def _gguf_config(reader: Any) -> dict[str, Any]:
    if "general.architecture" not in reader.fields:
        raise ModelError("GGUF file without general.architecture; choose the file of a language model")
    architecture = reader.fields["general.architecture"].contents()
    return {"general.architecture": architecture, **_gguf_fields(reader, f"{architecture}.")}


def _gguf_fields(reader: Any, prefix: str) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items() if name.startswith(prefix)}


def _gguf_entries(reader: Any) -> Iterator[TensorEntry]:
    for tensor in reader.tensors:
        yield _entry(tensor.name, tensor.tensor_type.name, [int(size) for size in tensor.shape], tensor.data)


def _folder_entries(folder: Path) -> Iterator[TensorEntry]:
    import torch

    for name, stored, tensor in read_tensors(weight_files(folder)):
        yield _entry(name, stored.dtype, list(stored.shape), tensor.reshape(-1).view(torch.uint8).numpy())


def _entry(name: str, dtype: str, shape: list[int], data: Any) -> TensorEntry:
    return name, dtype, shape, _digest(data.reshape(-1).data)


def _digest(data: Any) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _identities(path: Path) -> list[list[Any]]:
    """Scheme, path, size, modification time in ns and inode of every file that enters the fingerprint."""
    if path.is_file():
        files = list(gguf_parts(path))
    else:
        files = [path / "config.json", *sorted(path.glob("*.py")), *weight_files(path).files]
    try:
        stats = [(str(file), file.stat()) for file in files]
    except OSError as error:
        raise ModelError(
            f"{path}: {one_line(error)}; a model folder needs config.json and model.safetensors"
        ) from error
    return [[_SCHEME, name, stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats]


def _read_cache(path: Path) -> dict[str, Any]:
    # A missing or damaged cache counts as empty.
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _write_cache(path: Path, cache: dict[str, Any]) -> None:
    # Without a writable cache folder the hashes are computed again each time.
    with suppress(OSError), written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(cache, indent=1), encoding="utf-8")
