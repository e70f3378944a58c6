"""Speed and memory of a model on the current machine."""

import math
import platform
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from prunecast.plugins import (
    DataError,
    EvaluationError,
    Evaluator,
    Measurement,
    Metric,
    ModelShape,
    PluginOptions,
    logits_of,
)
from prunecast_plugins.evaluators.reading import Reading

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LatencyOptions(PluginOptions):
    """Options of the latency evaluator."""

    device: str = Field(
        default="auto", description="device type, such as cuda; auto: the accelerator if there is one, else cpu"
    )
    batch: int = Field(default=1, ge=1, description="number of sequences in a batch")
    prompt: int = Field(default=128, ge=1, description="prompt length in tokens")
    generate: int = Field(default=32, ge=1, description="number of tokens generated after the prompt")
    repeats: int = Field(default=5, ge=1, description="number of repetitions, after one warm-up that is not counted")


class Speeds(NamedTuple):
    """Result of one repetition: speeds in tokens per second, and bytes of the prompt's keys and values."""

    prefill: float
    decode: float
    cache_bytes: int


class Latency(Evaluator[LatencyOptions]):
    """Measured speed of prompt and generation, and the memory of weights and key-value cache.

    A batch of ``batch`` prompts of ``prompt`` tokens is read in one forward pass (prefill), then ``generate`` tokens
    follow greedily, one forward pass each, with a key-value cache (decode). Logits are computed for the last position
    only. A speed is the number of tokens of the phase over its seconds; values are means over ``repeats`` repetitions,
    after one warm-up that is not counted, and standard errors are those of the means. Bytes are exact: those of the
    kept weights in the model's dtype, shared weights once, and those of the prompt's keys and values in the cache.

    The elastic model of the run is timed, not the exported model, and either may be faster. A run with this evaluator
    times its export, too: in the engine of each target, in a process of its own, as tokens a second relative to the
    dense model, which is written and loaded there in the same way. If an architecture keeps
    only some heads of a group, the elastic model multiplies group by group, while exported weights are contiguous. On
    a CPU the elastic model has faster norms than transformers, and in bfloat16 it reads the prompt with blockwise
    attention (:mod:`prunecast.models.cpu.norms`, :mod:`prunecast.models.cpu.attention`); a model loaded from an export
    has neither. Use these numbers to compare architectures, and those of the export for its own speed.

    Speeds vary from run to run: values of one registry are comparable if nothing else ran on the machine. The device's
    name and the number of threads are part of the data hash, so measurements of another machine are not reused.
    """

    options_model = LatencyOptions
    measures_speed = True

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Make a prompt of arbitrary tokens. Raises DataError if prompt and generation exceed the model's context."""
        import torch

        options = self.options
        length = options.prompt + options.generate
        if length > shape.context:
            raise DataError(
                f"latency: prompt {options.prompt} + generate {options.generate} tokens exceed the model's "
                f"context, set them to {shape.context} together or less"
            )
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        found = accelerator.type if accelerator else "cpu"
        self._device = found if options.device == "auto" else options.device
        self._prompt = torch.arange(options.batch * options.prompt).view(options.batch, -1) % shape.vocabulary

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``latency.DEVICE.QUANTITY``; DEVICE is ``cpu``, ``cuda``, ..."""
        return (
            Metric(f"latency.{self._device}.prefill_tokens_per_second", "maximize", "tokens/s", "log"),
            Metric(f"latency.{self._device}.decode_tokens_per_second", "maximize", "tokens/s", "log"),
            Metric(f"latency.{self._device}.weight_bytes", "minimize", "bytes"),
            Metric(f"latency.{self._device}.kv_cache_bytes_per_token", "minimize", "bytes"),
        )

    @property
    def data_hash(self) -> str:
        """Hash of the name of the device and the number of threads."""
        import torch

        content = f"{_device_name(self._device)}\n{torch.get_num_threads()}"
        return blake2b(content.encode(), digest_size=16).hexdigest()

    @property
    def tokens(self) -> int:
        """Number of tokens of all repetitions, including the warm-up."""
        options = self.options
        return (options.repeats + 1) * options.batch * (options.prompt + options.generate)

    @property
    def expected_context(self) -> int:
        """Length of the prompt and of what follows it."""
        return self.options.prompt + self.options.generate

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Time all repetitions. Raises EvaluationError if the model is on another device than that of the metrics."""
        if model.device.type != self._device:
            raise EvaluationError(
                f"latency: the model is on {model.device.type}, metrics are for {self._device}; "
                f"write device: {model.device.type} beside use: latency"
            )
        prompt = self._prompt.to(model.device)
        timed = [self._repetition(model, prompt) for _ in range(self.options.repeats + 1)][1:]
        prefill, decode, weights, cache = self.metrics
        cached = timed[0].cache_bytes / prompt.numel()
        return [
            _mean(prefill, [speeds.prefill for speeds in timed], prompt.numel()),
            _mean(decode, [speeds.decode for speeds in timed], self.options.batch * self.options.generate),
            Measurement(weights, float(weight_bytes(model)), None, prompt.numel()),
            Measurement(cache, cached, None, prompt.numel()),
        ]

    def _repetition(self, model: "PreTrainedModel", prompt: "torch.Tensor") -> Speeds:
        reading = Reading(model)
        following = prompt

        def step() -> None:
            nonlocal following
            hidden = reading.read(following)[:, -1]
            following = logits_of(model, hidden).argmax(dim=-1, keepdim=True)

        def generate() -> None:
            for _ in range(self.options.generate):
                step()

        prefill = prompt.numel() / _seconds(step, model.device)
        cache_bytes = reading.nbytes
        decode = len(prompt) * self.options.generate / _seconds(generate, model.device)
        return Speeds(prefill, decode, cache_bytes)


def weight_bytes(model: "PreTrainedModel") -> int:
    """Bytes of all weights in use, shared weights once; of an elastic model, those of its current architecture."""
    from prunecast.plugins import ShrinkingInput, ShrinkingOutput

    tensors: dict[int, torch.Tensor] = {}
    for module in model.modules():
        if isinstance(module, ShrinkingOutput):
            used: Iterable[torch.Tensor | None] = chain.from_iterable(module.views())
        elif isinstance(module, ShrinkingInput):
            used = [*module.views(), module.kept_bias]
        else:
            used = module.parameters(recurse=False)
        tensors |= {tensor.data_ptr(): tensor for tensor in used if tensor is not None and tensor.numel()}
    return sum(tensor.nbytes for tensor in tensors.values())


def _seconds(work: Callable[[], None], device: "torch.device") -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: "torch.device") -> None:
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _mean(metric: Metric, values: list[float], count: int) -> Measurement:
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Measurement(metric, fmean(values), error, count)


def _device_name(device: str) -> str:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if device == "cpu" and described.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, f"{device} {platform.processor() or platform.machine()}")
