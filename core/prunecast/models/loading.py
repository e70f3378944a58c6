"""Loading a checkpoint as it is meant: by the stock classes of transformers, plain, complete, tied or not as stored.

Code that comes with a model is run for one comparison with the stock class, if it is trusted.
"""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.errors import ModelError, one_line
from prunecast.models.checkpoint import (
    StoredTensor,
    WeightFiles,
    read_json,
    read_tensors,
    stored_tensors,
    weight_files,
)
from prunecast.models.families.catalogue import check_type
from prunecast.models.families.config_values import DEPTHS
from prunecast.models.families.own_classes import is_of_transformers
from prunecast.models.families.quiet import quiet_transformers
from prunecast.models.fingerprint import count_parameters
from prunecast.models.load_report import check_report, left_out_note
from prunecast.models.own_code import check_same, own_class
from prunecast.models.pruned.classes import SIZES, as_pruned, is_exported
from prunecast.models.quantization import Quantisation, leftover_note, quantisation_of, stated_quantisation
from prunecast.models.tied import is_tied
from prunecast.text import amounts, first_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel


DEEP = 256
"""Number of layers that are made in a moment; more are compared with the stored weights before they are made."""


FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Storage types of safetensors that are numbers, and their dtypes in torch."""


@dataclass(frozen=True)
class Checkpoint:
    """A model in a folder, in the format of transformers.

    Attributes:
        name: name of the model, for messages.
        folder: folder with the config.
        find_weights: returns the folder that has the weights too; downloads those of a Hub model.
        trusted: True if code that comes with the model may run.
    """

    name: str
    folder: Path
    find_weights: Callable[[], Path]
    trusted: bool

    def config(self) -> "PreTrainedConfig":
        """A new copy of the config of the model as it is loaded.

        It differs from the file where the stored weights do: a head that is stored and differs from the embeddings is
        not tied to them, and quantised weights are dequantised.

        Raises:
            ModelError: the config cannot be read, or is not that of a causal language model of a described family.
        """
        config = self._stated_config()
        config.tie_word_embeddings = self._tied
        return config

    def check(self) -> list[str]:
        """Compare the headers of the stored weights with the config.

        Returns:
            Notes for the user on what is left out or not used, each a line.

        Raises:
            ModelError: the weights are missing, damaged, or do not fit the config; or they are quantised, and cannot be
                dequantised here.
        """
        notes = []
        if self._quantisation is None:
            if (entry := stated_quantisation(self.content)) is not None:
                notes.append(leftover_note(entry))
            model, report = self._loaded(self.config(), device_map="meta", ignore_mismatched_sizes=True)
            if left_out := check_report(report, model, self._stored, self.name):
                notes.append(left_out_note(left_out))
        if (code := self._other_code) is not None and not self.trusted:
            run = "prunecast's for its family" if is_exported(self.content.get("model_type")) else "the stock class"
            notes.append(
                f"its own code ({code}) is not run, {run} is; with trust_remote_code: true the two are compared first"
            )
        return [f"model {self.name}: {note}" for note in notes]

    def check_depth(self) -> None:
        """Compare the number of layers in the config, if it is large, with the headers of the stored weights.

        To make a model of so many layers, even without weights, takes minutes.

        Raises:
            ModelError: the weights are of fewer layers.
        """
        depth = next((self.content[field] for field in DEPTHS if type(self.content.get(field)) is int), 0)
        if depth <= DEEP:
            return
        numbers = [int(number) for name in self._stored for number in re.findall(r"\.(\d+)\.", name)]
        stored = max(numbers, default=-1) + 1
        if stored < depth:
            raise ModelError(
                f"model {self.name}: config.json says {depth:,} layers, and its weights have {stored:,}: correct one "
                "of them, or download it again"
            )

    def check_own_code(self, device: "torch.device | str") -> None:
        """Compare code that comes with the model, if it is trusted, with the stock class; loads both, in float32.

        Raises:
            ModelError: the two compute different things, or the code fails; or the model cannot be loaded.
        """
        import torch
        from transformers import AutoConfig

        code = self._other_code
        if code is None or not self.trusted:
            return

        def own() -> Any:
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=True)
            model, _ = self._loaded(self._as_stored(config), dtype=torch.float32, trust_remote_code=True)
            return self._plain(model, torch.float32).to(device).eval()

        check_same(lambda: self.load(torch.float32, device), own, code, self.name)

    def load(self, dtype: "torch.dtype", device: "torch.device | str") -> "PreTrainedModel":
        """A new copy of the model, in evaluation mode on ``device``, all weights in ``dtype``.

        Raises:
            ModelError: not enough memory is free, a file is damaged, the weights do not fit the config, or a weight is
                not finite in ``dtype``.
        """
        check_memory(self._count_parameters() * dtype.itemsize, dtype, device, self.name)
        model, report = self._loaded(self.config(), dtype=dtype)
        check_report(report, model, self._stored, self.name)
        loaded: PreTrainedModel = self._plain(model, dtype).to(device).eval()
        _check_numbers(loaded, self.name, dtype)
        return loaded

    def mapped(self, dtype: "torch.dtype") -> "PreTrainedModel":
        """A new copy of the model in evaluation mode on the CPU, its weights as they are stored, mapped from the files.

        Args:
            dtype: the dtype that the weights will be converted to, in which they have to be finite.

        Raises:
            ModelError: as :meth:`load`; or the weights are quantised, so that numbers would take their place.
        """
        import torch

        if self._quantisation is not None:
            raise ModelError(
                f"model {self.name}: its weights are quantised, so they cannot stay as stored: set model.placement "
                "to one"
            )
        formats = Counter(tensor.dtype for tensor in self._stored.values() if tensor.dtype in FLOATS)
        common = formats.most_common(1)[0][0] if formats else "F32"
        model, report = self._loaded(self.config(), dtype=getattr(torch, FLOATS[common]))
        check_report(report, model, self._stored, self.name)
        weights = model.state_dict()
        others = {name for name, tensor in self._stored.items() if tensor.dtype != common} & weights.keys()
        for name, _, tensor in read_tensors(self._weights, others):
            weights[name].data = tensor
        loaded: PreTrainedModel = model.eval()
        _check_numbers(loaded, self.name, dtype)
        return loaded

    def _loaded(self, config: "PreTrainedConfig", **options: Any) -> tuple[Any, dict[str, Any]]:
        """The model as transformers loads it, and its report on the weights."""
        from transformers import AutoModelForCausalLM

        loader: Any = AutoModelForCausalLM
        if self._quantisation is not None:
            config.quantization_config = dict(self._quantisation.entry)
        wanted = {"config": config, "trust_remote_code": False, **self._weights.options, **options}
        with reading(self.name, self.folder, "weights"):
            model, report = loader.from_pretrained(self._weight_folder, output_loading_info=True, **wanted)
        return model, report

    def _plain(self, model: Any, dtype: "torch.dtype") -> Any:
        """The model with weights that are numbers."""
        if self._quantisation is None:
            return model
        with reading(self.name, self.folder, "weights"):
            return self._quantisation.dequantised(model, dtype)

    def _count_parameters(self) -> int:
        """Number of parameters of the loaded model; codes that are stored may be packed."""
        if self._quantisation is None:
            return count_parameters(self._weight_folder)
        import torch
        from transformers import AutoModelForCausalLM

        loader: Any = AutoModelForCausalLM
        with torch.device("meta"):
            return int(loader.from_config(self.config(), trust_remote_code=False).num_parameters())

    def _stated_config(self) -> "PreTrainedConfig":
        """A new copy of the config, tied or not as its file states; without the entry of a quantisation."""
        from transformers import AutoConfig

        check_type(self.content, self.name)
        with reading(self.name, self.folder, "config"):
            config: PreTrainedConfig = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
            if self.content.get(SIZES) and not is_exported(config.model_type):
                config = as_pruned(config)
        return _without_quantisation(config)

    def _as_stored(self, config: Any) -> "PreTrainedConfig":
        """A config of the model's own code, changed as :meth:`config` changes the stock one."""
        config.tie_word_embeddings = self._tied
        return _without_quantisation(config)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Content of the file of its config."""
        return read_json(self.folder / "config.json")

    @property
    def _other_code(self) -> str | None:
        """Class of code that comes with the model, where transformers or, for an export, prunecast has one too."""
        kind = self.content.get("model_type")
        return own_class(self.content) if is_of_transformers(kind) or is_exported(kind) else None

    @cached_property
    def _tied(self) -> bool:
        """True if head and embeddings are the same weights in the loaded model."""
        config = self._stated_config()
        if not config.tie_word_embeddings:
            return False
        index = self.folder / "model.safetensors.index.json"
        # A Hub model has the index, if there is one, before its weights.
        names = read_json(index).get("weight_map") if index.is_file() else None
        try:
            return is_tied(config, names, lambda: self._weights)
        except ModelError:  # of missing or damaged weights, which are reported where they are needed
            return True

    @cached_property
    def _weight_folder(self) -> Path:
        return self.find_weights()

    @cached_property
    def _weights(self) -> WeightFiles:
        return weight_files(self._weight_folder)

    @cached_property
    def _stored(self) -> dict[str, StoredTensor]:
        return stored_tensors(self._weights)

    @cached_property
    def _quantisation(self) -> Quantisation | None:
        return quantisation_of(stated_quantisation(self.content), self._stored, self._weight_folder, self.name)


def _without_quantisation(config: Any) -> "PreTrainedConfig":
    for key in ("quantization_config", "compression_config"):
        if hasattr(config, key):
            delattr(config, key)
    plain: PreTrainedConfig = config
    return plain


@contextmanager
def reading(name: str, path: Path, part: str) -> Iterator[None]:
    """Silence transformers, and turn its exceptions into a ModelError.

    Args:
        name: name of the model.
        path: what is read.
        part: the part of the model that is read, for the message.
    """
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
            raise ModelError(f"model {name}: its {part} cannot be read from {path} ({reason})") from error


def check_memory(needed: int, dtype: "torch.dtype", device: "torch.device | str", name: str) -> None:
    """Raise ModelError unless so many bytes are free on ``device``, and in main memory, through which weights pass."""
    free = free_memory(device)
    if needed > free:
        need, has = amounts(needed, free)
        raise ModelError(
            f"{name} needs about {need} in {str(dtype).removeprefix('torch.')}, {has} are free: choose a smaller model "
            "or dtype, or a machine with more memory"
        )


def check_disk(needed: int, folder: Path, name: str) -> None:
    """Raise ModelError unless so many bytes are free on the disk of a folder in the cache."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        need, has = amounts(needed, free)
        raise ModelError(
            f"{name} needs {need} of disk in {folder}, {has} are free: make room, or set PRUNECAST_CACHE to a folder "
            "elsewhere"
        )


def _check_numbers(model: "PreTrainedModel", name: str, dtype: "torch.dtype") -> None:
    """Raise ModelError if a weight is no number in ``dtype``: a code of a quantised checkpoint, an infinity or NaN."""
    import torch

    if codes := [parameter for parameter, weight in model.named_parameters() if not weight.is_floating_point()]:
        raise ModelError(f"model {name}: {codes[0]} is loaded as codes, not as numbers; take an unquantised checkpoint")
    names, weights = zip(*model.named_parameters(), strict=True)
    with torch.no_grad():
        # aminmax needs no temporary of a weight's size, and the stack synchronises with the device once.
        finite = torch.stack([torch.stack(weight.aminmax()).to(dtype).isfinite().all() for weight in weights])
    wrong = [names[i] for i in (~finite).nonzero().flatten().tolist()]
    if wrong:
        listed = first_of(wrong)
        raise ModelError(
            f"model {name}: not finite in {str(dtype).removeprefix('torch.')}: {listed}; download it again, or "
            "set model.dtype to one that holds its numbers"
        )


def free_memory(device: "torch.device | str") -> int:
    """Free bytes for the weights: on ``device``, and in main memory, through which they are loaded."""
    import psutil
    import torch

    free = int(psutil.virtual_memory().available)
    if torch.device(device).type == "cuda":
        return min(free, int(torch.cuda.mem_get_info(device)[0]))
    return free
