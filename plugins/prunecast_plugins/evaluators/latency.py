"""Speed and size of a model on the machine at hand."""

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

from prunecast.plugins import DataError, EvaluationError, Evaluator, Measurement, Metric, ModelShape, PluginOptions
from prunecast_plugins.evaluators.logits import logits_of
from prunecast_plugins.evaluators.reading import Reading

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LatencyOptions(PluginOptions):
    """Options of the latency evaluator."""

    device: str = Field(default="auto", description="type of the model's device; auto: the accelerator if there is one")
    batch: int = Field(default=1, ge=1, description="sequences at a time")
    prompt: int = Field(default=128, ge=1, description="tokens of the prompt")
    generate: int = Field(default=32, ge=1, description="tokens generated after it")
    repeats: int = Field(default=5, ge=1, description="measurements, after one that does not count")


class Speeds(NamedTuple):
    """One measurement, in tokens a second, and the bytes of the prompt's keys and values."""

    prefill: float
    decode: float
    cache_bytes: int


class Latency(Evaluator[LatencyOptions]):
    """Measured speed of prompt and generation, and the memory of weights and key-value cache.

    A prompt of ``prompt`` tokens is read by ``batch`` sequences at once (prefill), then ``generate`` tokens follow
    greedily, one forward pass each, with a key-value cache (decode). Logits are made for the last position only. Each
    speed is all tokens of the phase over its seconds; the values are means over ``repeats``, after one round that does
    not count, and the standard errors are those of the means. Bytes are exact: of the weights that are kept, shared
    ones once, in the model's dtype, and of what the prompt left in the cache.

    What is timed is the elastic model as runs measure it, not the exported one, and either may be the faster. Where an
    architecture keeps some of the heads of a group the elastic model multiplies group by group, while exported weights
    are in one piece. On a processor it has faster norms than transformers', and in bfloat16 it reads the prompt with
    attention by blocks (:mod:`prunecast.models.cpu.norms`, :mod:`prunecast.models.cpu.attention`), which a model loaded from an
    export has not. Compare architectures by these numbers; time an export for its own speed.

    Speeds differ from run to run: numbers of one registry compare if nothing else ran on the machine. Device and
    number of threads are in the data hash, so another machine measures anew.
    """

    options_model = LatencyOptions

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Choose the prompt, any tokens. Raises DataError if prompt and generation exceed the model's context."""
        import torch

        options = self.options
        length = options.prompt + options.generate
        if length > shape.context:
            raise DataError(
                f"latency: prompt {options.prompt} + generate {options.generate} tokens are more than the model's "
                f"context, set them to {shape.context} together or less"
            )
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        found = accelerator.type if accelerator else "cpu"
        self._device = found if options.device == "auto" else options.device
        self._prompt = torch.arange(options.batch * options.prompt).view(options.batch, -1) % shape.vocabulary

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``latency.DEVICE.`` and what it is; DEVICE is ``cpu``, ``cuda``, ..."""
        return (
            Metric(f"latency.{self._device}.prefill_tokens_per_second", "maximize", "tokens/s", "log"),
            Metric(f"latency.{self._device}.decode_tokens_per_second", "maximize", "tokens/s", "log"),
            Metric(f"latency.{self._device}.weight_bytes", "minimize", "bytes"),
            Metric(f"latency.{self._device}.kv_cache_bytes_per_token", "minimize", "bytes"),
        )

    @property
    def data_hash(self) -> str:
        """Hash of what the speed depends on: name of the device, number of threads."""
        import torch

        content = f"{_device_name(self._device)}\n{torch.get_num_threads()}"
        return blake2b(content.encode(), digest_size=16).hexdigest()

    @property
    def tokens(self) -> int:
        """Tokens of all rounds, the one that does not count included."""
        options = self.options
        return (options.repeats + 1) * options.batch * (options.prompt + options.generate)

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Time the rounds. Raises EvaluationError if the model is on another device than the metrics say."""
        if model.device.type != self._device:
            raise EvaluationError(
                f"latency: the model is on {model.device.type}, metrics are for {self._device}; "
                f"write device: {model.device.type} beside use: latency"
            )
        prompt = self._prompt.to(model.device)
        rounds = [self._round(model, prompt) for _ in range(self.options.repeats + 1)][1:]
        prefill, decode, weights, cache = self.metrics
        cached = rounds[0].cache_bytes / prompt.numel()
        return [
            _mean(prefill, [speeds.prefill for speeds in rounds], prompt.numel()),
            _mean(decode, [speeds.decode for speeds in rounds], self.options.batch * self.options.generate),
            Measurement(weights, float(weight_bytes(model)), None, prompt.numel()),
            Measurement(cache, cached, None, prompt.numel()),
        ]

    def _round(self, model: "PreTrainedModel", prompt: "torch.Tensor") -> Speeds:
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
    """Bytes of all weights the model uses, shared ones once; of an elastic model, those its architecture keeps."""
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
