"""Fingerprints: hashes of a model's config and weights.

A fingerprint depends on every config value that can affect the outputs, on the code that comes with the model, and on
the name, storage type, shape and bits of every tensor. It does not depend on the names of the weight files, their
division into shards, or the order of tensors.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from prunecast.cache import cache_dir
from prunecast.errors import ModelError, one_line
from prunecast.owned.files import written_whole

_SCHEME = 1
"""Version of the fingerprint, raised when the same model would get a different one."""

_VOLATILE = {"transformers_version", "_name_or_path", "_commit_hash", "torch_dtype", "dtype"}
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
    return _cached(path, "fingerprint", _compute)


def tokenizer_digest(path: Path) -> str:
    """Hash of the tokenizer in a ``.gguf`` file, 32 hexadecimal digits, cached in the same way as its fingerprint.

    Raises:
        ModelError: the file is damaged.
    """
    return _cached(path, "tokenizer", _compute_tokenizer)


def count_parameters(path: Path) -> int:
    """Number of stored parameters of a model folder or a ``.gguf`` file, read from the headers.

    Raises:
        ModelError: no weights, or a file is damaged.
    """
    if path.is_file():
        return sum(int(tensor.n_elements) for tensor in open_gguf(path).tensors)
    total = 0
    for file in weight_files(path):
        with _open_safetensors(file) as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def weight_files(folder: Path) -> list[Path]:
    """Safetensors files that transformers would load: ``model.safetensors``, or the shards listed in its index.

    Raises:
        ModelError: there are none, or a listed shard is missing.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if not index.is_file():
        raise ModelError(
            f"{folder}: no weights, model.safetensors or its index is missing; save the model as safetensors"
        )
    shards = sorted(set(read_json(index).get("weight_map", {}).values()))
    for shard in shards:
        if not (folder / shard).is_file():
            raise ModelError(f"{folder / shard}: no such file, though {index.name} names it; complete the download")
    return [folder / shard for shard in shards]


def open_gguf(path: Path) -> Any:
    """A ``gguf.GGUFReader``, memory-mapped. Raises ModelError if the file is damaged."""
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    # The reader does not validate the file: damage raises arbitrary exceptions of numpy or struct.
    except Exception as error:
        raise ModelError(f"{path}: not a readable GGUF file ({one_line(error)}); download it again") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelError if the file is not readable or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON ({one_line(error)}); replace it") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: a JSON object is expected; replace it")
    return content


def _cached(path: Path, part: str, compute: Callable[[Path], str]) -> str:
    """The cached hash of a part of a model; computed if there is none or the model's files have changed since."""
    files = _identities(path)
    cache_file = cache_dir() / "fingerprints.json"
    cache = _read_cache(cache_file)
    location = str(path.resolve())
    entry = cache.get(location, {})
    if entry.get("files") != files:
        entry = {"files": files}
    if part not in entry:
        entry[part] = compute(path)
        _write_cache(cache_file, cache | {location: entry})
    return str(entry[part])


def _compute(path: Path) -> str:
    if path.is_file():
        reader = open_gguf(path)
        config, entries = _gguf_config(reader), sorted(_gguf_entries(reader))
    else:
        config, entries = _folder_config(path), sorted(_safetensors_entries(path))
    return _digest(json.dumps([_SCHEME, config, entries], sort_keys=True, default=str).encode())


def _folder_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    # The outputs of a model with its own code depend on that code.
    code = {file.name: _digest(file.read_bytes()) for file in folder.glob("*.py")} if "auto_map" in config else {}
    return {"config": _without_volatile(config), "code": code}


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_volatile(item) for key, item in value.items() if key not in _VOLATILE}
    return value


def _compute_tokenizer(file: Path) -> str:
    return _digest(json.dumps(_gguf_fields(open_gguf(file), "tokenizer."), sort_keys=True, default=str).encode())


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


def _safetensors_entries(folder: Path) -> Iterator[TensorEntry]:
    import torch

    for file in weight_files(folder):
        with _open_safetensors(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118
                stored = tensors.get_slice(name)
                data = tensors.get_tensor(name).reshape(-1).view(torch.uint8).numpy()
                yield _entry(name, stored.get_dtype(), stored.get_shape(), data)


def _entry(name: str, dtype: str, shape: list[int], data: Any) -> TensorEntry:
    return name, dtype, shape, _digest(data.reshape(-1).data)


def _digest(data: Any) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a readable safetensors file ({one_line(error)}); download it again") from error


def _identities(path: Path) -> list[list[Any]]:
    """Scheme, path, size, modification time in ns and inode of every file that enters the fingerprint."""
    files = [path] if path.is_file() else [path / "config.json", *sorted(path.glob("*.py")), *weight_files(path)]
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
