"""GGUF files: parts of split files, readers, and the conversion to a folder that transformers loads."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError, one_line
from prunecast.models.checkpoint import check_content
from prunecast.models.load_report import check_report

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_MAGIC = b"GGUF"
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf)", re.IGNORECASE)
"""Name of one of several files, as llama.cpp splits them."""


def is_gguf(path: Path) -> bool:
    """True for a path with the suffix ``.gguf`` in any case, and for a file of any name that begins as GGUF does."""
    if path.suffix.lower() == ".gguf":
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def gguf_in(folder: Path) -> Path | None:
    """The model in a folder of ``.gguf`` files, the first part of a split one; None if there is none.

    Raises:
        ModelError: there are several models.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix.lower() == ".gguf")
    models = {(found["stem"] if (found := _PART.fullmatch(file.name)) else file.name): file for file in reversed(files)}
    if len(models) > 1:
        listed = ", ".join(sorted(file.name for file in models.values()))
        raise ModelError(f"{folder}: holds several GGUF models ({listed}); name one of these files")
    return next(iter(models.values()), None)


def gguf_parts(path: Path) -> tuple[Path, ...]:
    """All files of the model that ``path`` is a file of, in order: itself, unless it is one of several.

    Raises:
        ModelError: a file is missing, or a git-lfs pointer or an error page stands in its place.
    """
    found = _PART.fullmatch(path.name)
    parts: tuple[Path, ...] = (path,)
    if found is not None:
        count = found["count"]
        names = (f"{found['stem']}-{number:05d}-of-{count}{found['suffix']}" for number in range(1, int(count) + 1))
        parts = tuple(path.with_name(name) for name in names)
    for part in parts:
        if not part.is_file():
            raise ModelError(
                f"{part}: no such file, one of the {len(parts)} that the model is split into; complete the download"
            )
        check_content(part)
    return parts


def open_gguf(path: Path) -> Any:
    """A ``gguf.GGUFReader``, memory-mapped. Raises ModelError if the file is damaged."""
    from gguf import GGUFReader

    check_content(path)
    try:
        return GGUFReader(path)
    # The reader does not validate the file: damage raises arbitrary exceptions of numpy or struct.
    except Exception as error:
        raise ModelError(
            f"{path}: not a readable GGUF file ({_damage(path) or one_line(error)}); download it again"
        ) from error


def _damage(path: Path) -> str | None:
    with path.open("rb") as file:
        begins_well = file.read(len(_MAGIC)) == _MAGIC
    return f"cut off or damaged, {path.stat().st_size:,} bytes long" if begins_well else None


def readers(path: Path) -> Iterator[Any]:
    """Open readers of all files of a model, in order. Raises ModelError if a file is missing or damaged."""
    return map(open_gguf, gguf_parts(path))


def gguf_config(path: Path) -> "PreTrainedConfig":
    """The config in the header of a model's first file; no tensor is read.

    Raises:
        ModelError: the file is damaged.
        Exception: transformers does not know the architecture.
    """
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    except Exception:
        open_gguf(
            path
        )  # says what is wrong with a damaged file, which takes longer than reading the config of a good one
        raise
    return config


def convert_gguf(path: Path, folder: Path, name: str, config: "PreTrainedConfig") -> None:
    """Write config, tokenizer and float32 weights of a GGUF model to a new folder.

    Args:
        path: its file, or the first of them.
        folder: the folder, which does not exist; split files are merged beside it.
        name: name of the model, for messages.
        config: its config.

    Raises:
        ModelError: a file is missing or damaged, or the weights are not those that its header announces.
        Exception: transformers cannot read the file.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parts = gguf_parts(path)
    file = parts[0] if len(parts) == 1 else _merged(parts, folder.with_suffix(".gguf"))
    place: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    loader: Any = AutoModelForCausalLM
    AutoTokenizer.from_pretrained(**place, trust_remote_code=False).save_pretrained(folder)
    model, report = loader.from_pretrained(
        **place,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        trust_remote_code=False,
        quantization_config=_unpacked(transformers),
    )
    check_report(report, model, {}, name)
    # The weights are dequantised now; attributes that still mark them as quantised would prevent saving.
    for owner, attribute in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, attribute):
            delattr(owner, attribute)
    model.is_quantized = False
    model.save_pretrained(folder)


def _unpacked(transformers: Any) -> Any:
    """Config without which weights stay packed wherever a kernel for them is installed; older versions have none."""
    config = getattr(transformers, "GgufConfig", None)
    return None if config is None else config(dequantize=True)


def _merged(parts: tuple[Path, ...], file: Path) -> Path:
    """One file with the fields of the first part and the tensors of all, their blocks unchanged."""
    from gguf import GGUFValueType, GGUFWriter

    opened = list(map(open_gguf, parts))
    fields = opened[0].fields
    writer = GGUFWriter(file, fields["general.architecture"].contents())
    for name, field in fields.items():
        if name.startswith(("GGUF.", "split.")) or name == "general.architecture":
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], inner)
    for reader in opened:
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
