"""Recovery: the chosen architecture is trained and measured again.

Trained weights are kept in the cache by content, so nothing is trained twice. Their measurements are kept in the
registry under a pruner whose name, options and data say how the weights were recovered.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ModelShape
from prunecast.cache import cached
from prunecast.compare.candidate import Candidate
from prunecast.data import check_embedded, instruction_examples
from prunecast.data.dataset import Row
from prunecast.errors import RecoveryError
from prunecast.export.deliver import Deliverable
from prunecast.export.huggingface import stored_weights
from prunecast.export.sliced import SlicedFolder
from prunecast.measure.device import choose_dtype
from prunecast.measure.measure import Measuring
from prunecast.measure.setup import NamedEvaluator
from prunecast.models.families.family import Family
from prunecast.models.source import ModelSource
from prunecast.owned.files import written_whole
from prunecast.plugins.bos import bos_tokens, with_settled_bos
from prunecast.progress import Progress
from prunecast.recover.adapters import adapter_weights, attach, check_installed, four_bits, merge
from prunecast.recover.training import Log, Schedule, train
from prunecast.recover.training_data import DistillationLoss, InstructionLoss, TrainingData
from prunecast.registry import PluginRecord, content_key
from prunecast.registry.records import ModelRecord
from prunecast.spec.recovery import DistillRecovery, Recovery
from prunecast.text import counted

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from prunecast.models.elastic import ElasticModel


@dataclass(frozen=True)
class Recovered:
    """The best architecture after it was trained.

    Attributes:
        method, options: training method and options of the spec.
        dtype: number format of the training.
        examples: number of training examples.
        steps: optimiser steps.
        losses: loss of each step, nats a position; None if only the measurements are known on this machine.
        seconds: duration of the training; None likewise.
        after: measured metrics after training.
    """

    method: str
    options: dict[str, Any]
    dtype: str
    examples: int
    steps: int
    losses: list[float] | None
    seconds: float | None
    after: Candidate

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**vars(self), "after": self.after.to_json()}


VERSION = 1
"""Raised when the same options would give other weights."""


@dataclass(frozen=True)
class Trained:
    """Weights after recovery, under the stock names and in the measured dtype, with the record of the training.

    Attributes:
        weights: all of them, sliced.
        losses: loss of each step, nats a position.
        seconds: duration of the training.
    """

    weights: "Mapping[str, Tensor]"
    losses: list[float]
    seconds: float


def check_recovery(options: Recovery | None, device: str) -> None:
    """Raise RecoveryError if a requirement of a spec's recovery is missing, so that a run stops before it measures.

    Args:
        options: the spec's ``recover``, or None.
        device: type of the device the run computes on.
    """
    if options is None:
        return
    if _uses_adapters(options):
        check_installed("peft", options.method)
    if options.method == "qlora":
        if device != "cuda":
            raise RecoveryError(f"recover: method qlora needs a CUDA GPU, this run computes on {device}: use lora")
        check_installed("bitsandbytes", options.method)


@dataclass(frozen=True)
class RecoveryInputs:
    """Parts of a run that a recovery needs.

    Attributes:
        source, family, shape: files, description and sizes of the dense model.
        tokenizer: its tokenizer.
        device, dtype: place and number format of the measurements.
        model, pruner: identities of the model and of its pruner in the registry.
        verifiers: evaluators of the verification.
        rows: reads the rows of instructions to train on.
        windows: reads the windows of plain text to distil on, int64 of shape (N, T), with ``bos`` in front.
    """

    source: ModelSource
    family: Family
    shape: ModelShape
    tokenizer: "PreTrainedTokenizerBase"
    device: "torch.device"
    dtype: "torch.dtype"
    model: ModelRecord
    pruner: PluginRecord
    verifiers: Sequence[NamedEvaluator]
    rows: Callable[[Recovery], list[Row]]
    windows: "Callable[[DistillRecovery], Tensor]"


class Recoverer:
    """Recovers architectures by the ``recover`` section of a spec.

    Args:
        inputs: parts of the run.
        options: the spec's ``recover``.
        elastic: returns the elastic model; called only if something has to be trained.
        progress: where progress is shown.
    """

    def __init__(
        self, inputs: RecoveryInputs, options: Recovery, elastic: "Callable[[], ElasticModel]", progress: Progress
    ) -> None:
        self._inputs, self._options, self._elastic, self._progress = inputs, options, elastic, progress
        self._dtype = choose_dtype(options.dtype, inputs.device)

    @cached_property
    def data(self) -> TrainingData:
        """Training data."""
        inputs, options = self._inputs, self._options
        if isinstance(options, DistillRecovery):
            return DistillationLoss(inputs.windows(options), self._dense_logits, options.temperature, inputs.device)
        rows = inputs.rows(options)
        bos = bos_tokens(options.bos, inputs.tokenizer, inputs.shape)
        examples = instruction_examples(inputs.tokenizer, rows, options.tokens, bos)
        check_embedded(inputs.tokenizer, chain.from_iterable(each.ids for each in examples), inputs.shape.vocabulary)
        return InstructionLoss(examples, inputs.device)

    @cached_property
    def schedule(self) -> Schedule:
        """Length and learning rate of the training."""
        options = self._options
        steps = options.steps or Schedule.steps_for(options.epochs, len(self.data), options.batch)
        return Schedule(
            steps=steps,
            batch=options.batch,
            micro_batch=options.micro_batch,
            learning_rate=options.learning_rate,
            warmup=options.warmup,
            seed=options.seed,
            dtype=self._dtype,
        )

    @cached_property
    def evaluators(self) -> list[NamedEvaluator]:
        """Verifiers of the run, under settings that say how the weights were recovered."""
        return [
            replace(named, setting=replace(named.setting, pruner=self._record(named.setting.pruner)))
            for named in self._inputs.verifiers
        ]

    def trained(self, architecture: Architecture) -> Trained:
        """The recovered weights: from the cache, else from training. Raises RecoveryError if that diverges."""
        path = self._file(architecture)
        if (found := _read(path)) is not None:
            return found
        self._progress.say(f"recovering by {self._options.method}: {counted(self.schedule.steps, 'step')}")
        elastic = self._elastic()
        elastic.apply(architecture)
        weights, log = self._train(elastic.state_dict(), architecture, path.with_suffix(".checkpoint"))
        self._progress.say(f"loss {log.losses[0]:.3f} at the first step, {log.losses[-1]:.3f} at the last")
        trained = Trained(weights, log.losses, log.seconds)
        _write(path, trained)
        return trained

    def deliverable(self, architecture: Architecture) -> Deliverable:
        """The recovered model, to be measured and written."""
        weights = self.trained(architecture).weights
        with SlicedFolder.written(self._inputs.source.config(), self._inputs.family, weights, architecture) as sliced:
            return Deliverable(sliced.load(self._inputs.dtype, self._inputs.device), weights, architecture)

    def summary(self, after: Candidate) -> Recovered:
        """Summary of a recovery that measured ``after``."""
        trained = _read(self._file(after.architecture))
        return Recovered(
            method=self._options.method,
            options=self._options.model_dump(mode="json"),
            dtype=str(self._dtype).removeprefix("torch."),
            examples=len(self.data),
            steps=self.schedule.steps,
            losses=None if trained is None else [round(loss, 4) for loss in trained.losses],
            seconds=None if trained is None else round(trained.seconds, 1),
            after=after,
        )

    def _train(
        self, state: "Mapping[str, Tensor]", architecture: Architecture, checkpoint: Path
    ) -> "tuple[dict[str, Tensor], Log]":
        import torch

        inputs, options = self._inputs, self._options
        config = inputs.source.config()
        with SlicedFolder.written(config, self._inputs.family, state, architecture) as sliced:
            if _uses_adapters(options):
                quantized = four_bits(self._dtype) if options.method == "qlora" else None
                adapted = self._attach(sliced.load(self._dtype, inputs.device, quantized))
                log = self._fit(adapted, checkpoint)
                adapters = adapter_weights(adapted)
                # Merged into weights that were never quantised, in float32: rounding comes once, at the end.
                model = merge(self._attach(sliced.load(torch.float32, inputs.device)), adapters)
            else:
                model = sliced.load(torch.float32, inputs.device).requires_grad_(True)
                log = self._fit(model, checkpoint)
        weights = {name: tensor.to(inputs.dtype).cpu() for name, tensor in model.state_dict().items()}
        return stored_weights(config, inputs.family, weights), log

    def _attach(self, model: Any) -> Any:
        o = self._options
        return attach(model, self._inputs.family, o.targets, rank=o.rank, alpha=o.alpha, dropout=o.dropout, seed=o.seed)

    def _fit(self, model: Any, checkpoint: Path) -> Log:
        wanted = self._options.gradient_checkpointing
        if self._inputs.device.type != "cpu" if wanted is None else wanted:
            with warnings.catch_warnings():
                # The name that replaces this one is not in every version of transformers we support.
                warnings.simplefilter("ignore", FutureWarning)
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return train(model, self.data, self.schedule, checkpoint, self._progress)

    def _dense_logits(self, ids: "Tensor") -> "Tensor":
        elastic = self._elastic()
        elastic.apply(self._inputs.shape.dense)
        logits: Tensor = elastic.model(ids, use_cache=False).logits
        return logits

    def _record(self, pruner: PluginRecord) -> PluginRecord:
        """Identity of a recovered model's pruner: that of the pruner, and everything that decides the recovery."""
        options = with_settled_bos(self._options, self._inputs.family.bos).material_options()
        made_by = {"version": VERSION, "dtype": str(self._dtype).removeprefix("torch.")}
        return replace(
            pruner,
            name=f"{pruner.name}+{self._options.method}",
            options={**pruner.options, "recover": options | made_by},
            data_hash=content_key([pruner.data_hash, self.data.data_hash]),
        )

    def _file(self, architecture: Architecture) -> Path:
        """File of the weights, named by everything that decides them."""
        inputs = self._inputs
        pruner = self._record(inputs.pruner)
        key = content_key([inputs.model.fingerprint, pruner.key, str(inputs.dtype), architecture.key])
        return cached("recovered", f"{key}.safetensors")


def recover(recoverer: Recoverer, best: Candidate, measuring: Measuring) -> Recovered:
    """Recover the best architecture and measure it again.

    Raises:
        RecoveryError: the training diverged, or the recovered model could not be measured.
    """
    architecture, evaluators = best.architecture, recoverer.evaluators
    metrics = measuring.measure_model(
        "recover", architecture, lambda: recoverer.deliverable(architecture).model, evaluators
    )
    promised = [metric.name for named in evaluators for metric in named.metrics]
    if missing := [name for name in promised if name not in metrics]:
        raise RecoveryError(f"the recovered model has no {missing[0]}: see the registry's table failures")
    return recoverer.summary(replace(best, name="recovered", metrics={name: metrics[name] for name in promised}))


def _uses_adapters(options: Recovery) -> bool:
    return not isinstance(options, DistillRecovery) or options.parameters == "lora"


def _read(path: Path) -> Trained | None:
    from safetensors import safe_open

    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        training = json.loads(file.metadata()["training"])
    return Trained(weights, training["losses"], training["seconds"])


def _write(path: Path, trained: Trained) -> None:
    from safetensors.torch import save_file

    training = json.dumps({"losses": trained.losses, "seconds": trained.seconds})
    weights = {name: tensor.contiguous() for name, tensor in trained.weights.items()}
    with written_whole(path) as unfinished:
        save_file(weights, unfinished, metadata={"format": "pt", "training": training})
