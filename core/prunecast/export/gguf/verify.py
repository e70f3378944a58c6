"""Comparison of a GGUF file in llama.cpp with the measured model in transformers.

Notation:
    T  tokens of a window
    V  size of the vocabulary
"""

import importlib.metadata
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunecast.errors import ExportError
from prunecast.export.gguf.plan import Dtype
from prunecast.export.gguf.pre_tokenizers import PROBE
from prunecast.export.gguf.write import GgufFile

if TYPE_CHECKING:
    from torch import Tensor

ENGINE = "xllamacpp"
"""Distribution that brings llama.cpp."""

_SCRIPT = Path(__file__).with_name("engine.py")

WINDOW, DETAILED, TOP, PROMPT, GENERATED = 512, 64, 64, 16, 32
"""Tokens of a window; positions whose most probable tokens are compared, and their number; tokens of the prompt, and
of the generated text."""

LOG_PROBABILITY: dict[Dtype, float] = {"f32": 0.05, "f16": 0.05, "bf16": 0.5}
"""Largest allowed difference between log-probabilities, by format; quantised weights are others, and have no limit."""

PERPLEXITY: dict[Dtype, float] = {"f32": 0.005, "f16": 0.005, "bf16": 0.02, "q8_0": 0.02, "q4_0": 0.5}
"""Largest allowed relative difference between perplexities, by format. Four bits lose much in small models: the limit
tells a damaged file from a rounded one, not a good file from a bad one."""


@dataclass(frozen=True)
class GgufParity:
    """A GGUF file in llama.cpp, compared with the measured model in float32.

    Attributes:
        engine: name and version of the engine.
        positions: number of positions at which the probabilities of the most probable tokens were compared.
        max_log_probability_difference: largest absolute difference between them, in nats.
        greedy_equal: number of generated tokens, from the first, that are the same.
        greedy: number of generated tokens compared.
        tokens: number of tokens that the perplexities are of: those of full windows but the first, and but those that
            end in the middle of a character, of which the engine tells nothing.
        perplexity, reference_perplexity: in llama.cpp, and of the measured model.
        tokenizer_equal: True if llama.cpp splits a text with all kinds of characters as the model's tokenizer does;
            None if that was not asked.
        bytes: size of the file.
        load_seconds: time to load it.
        prefill, decode: tokens a second, reading and generating.
    """

    engine: str
    positions: int
    max_log_probability_difference: float
    greedy_equal: int
    greedy: int
    tokens: int
    perplexity: float
    reference_perplexity: float
    tokenizer_equal: bool | None
    bytes: int
    load_seconds: float
    prefill: float
    decode: float

    def problems(self, dtype: Dtype) -> list[str]:
        """What is beyond the limits of a number format, each a clause; empty if the file is the measured model."""
        problems = []
        difference, limit = self.max_log_probability_difference, LOG_PROBABILITY.get(dtype, math.inf)
        if not difference <= limit:
            problems.append(f"log-probabilities differ by {difference:.2g}, {limit:g} is allowed")
        off = abs(self.perplexity / self.reference_perplexity - 1)
        if not off <= PERPLEXITY[dtype]:
            problems.append(
                f"the perplexity is {self.perplexity:.4g} instead of {self.reference_perplexity:.4g}, "
                f"{PERPLEXITY[dtype]:.1%} is allowed"
            )
        return problems


def engine_version() -> str | None:
    """Version of the installed engine; None if there is none."""
    try:
        return importlib.metadata.version(ENGINE)
    except importlib.metadata.PackageNotFoundError:
        return None


def verify_gguf(
    file: GgufFile,
    reference: "Callable[[Tensor], Tensor]",
    tokens: Sequence[int],
    context: int,
    encode: Callable[[str], Sequence[int]] | None = None,
) -> GgufParity:
    """Compare a file in llama.cpp, in a fresh process, with the measured model.

    Args:
        file: the file.
        reference: returns the logits (1, T, V) of the measured model for int64 ids (1, T) on the CPU, in float32.
        tokens: ids of a text; as many windows of it are compared as are full, or one that is not.
        context: most tokens that the model reads at once.
        encode: the model's tokenizer, without special tokens, to be compared as well; None not to.

    Raises:
        ExportError: the engine is not installed, the file does not load, or it is not the measured model.
    """
    import torch

    version = engine_version()
    if version is None:
        raise ExportError(f"llama.cpp is not installed to verify {file.path.name}: pip install {ENGINE}")
    length = min(WINDOW, context - GENERATED, len(tokens))
    windows = [list(tokens[start : start + length]) for start in range(0, len(tokens) - length + 1, length)]
    expected = [_log_probabilities(reference, window) for window in windows]
    prompt = windows[0][:PROMPT]
    continued = _continued(reference, prompt)
    reply = _run(
        file.path,
        {
            "windows": windows,
            "detailed": min(DETAILED, length - 1),
            "top": TOP,
            "continued": continued,
            "given": len(prompt),
            "text": PROBE,
            "context": length + GENERATED,
            "threads": torch.get_num_threads(),
        },
    )
    details = [(place, entries) for place, entries in enumerate(reply["most_probable"]) if entries]
    generated = [pair for pair in zip(continued[len(prompt) :], reply["preferred"], strict=True) if pair[1] is not None]
    of_reference = [_of_tokens(*each) for each in zip(expected, windows, strict=True)]
    compared = [
        pair
        for found, wanted in zip(reply["log_probabilities"], of_reference, strict=True)
        for pair in zip(found, wanted, strict=True)
        if pair[0] is not None
    ]
    parity = GgufParity(
        engine=f"llama.cpp ({ENGINE} {version})",
        positions=len(details),
        max_log_probability_difference=_largest_difference(expected[0], details),
        greedy_equal=next((place for place, (one, other) in enumerate(generated) if one != other), len(generated)),
        greedy=len(generated),
        tokens=len(compared),
        perplexity=_perplexity([found for found, _ in compared]),
        reference_perplexity=_perplexity([wanted for _, wanted in compared]),
        tokenizer_equal=None if encode is None else list(encode(PROBE)) == reply["tokens"],
        bytes=file.path.stat().st_size,
        load_seconds=reply["load_seconds"],
        prefill=reply["prefill"],
        decode=reply["decode"],
    )
    if problems := parity.problems(file.dtype):
        raise ExportError(f"{file.path.name} in llama.cpp is not the measured model: {'; '.join(problems)}")
    return parity


def _run(file: Path, request: dict[str, Any]) -> dict[str, Any]:
    with TemporaryDirectory() as scratch:
        request_file = Path(scratch, "request.json")
        request_file.write_text(json.dumps(request), encoding="utf-8")
        outcome = subprocess.run(
            [sys.executable, "-P", str(_SCRIPT), str(file), str(request_file)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if outcome.returncode != 0:
        lines = outcome.stderr.strip().splitlines() or [f"exit code {outcome.returncode}"]
        raise ExportError(f"{file.name} does not run in llama.cpp: {_cause(lines)}")
    reply: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])
    return reply


def _cause(lines: Sequence[str]) -> str:
    """The line of the engine's messages that says what is wrong."""
    telling = [line for line in lines if "error loading model:" in line or "GGML_ASSERT" in line]
    return (telling or lines)[-1].strip()


def _log_probabilities(reference: "Callable[[Tensor], Tensor]", window: Sequence[int]) -> "Tensor":
    """Natural logarithms of the probabilities of the next token, float32 of shape (T - 1, V)."""
    import torch

    with torch.inference_mode():
        logits = reference(torch.tensor([window]))[0, :-1].float().cpu()
        return logits.log_softmax(-1)


def _of_tokens(expected: "Tensor", window: Sequence[int]) -> list[float]:
    """Log-probabilities of the tokens of a window but the first."""
    import torch

    values: list[float] = expected.gather(1, torch.tensor(window[1:])[:, None])[:, 0].tolist()
    return values


def _largest_difference(expected: "Tensor", details: Sequence[tuple[int, Sequence[tuple[int, float]]]]) -> float:
    """Largest absolute difference over the most probable tokens of some positions."""
    return max(abs(float(expected[place, token]) - value) for place, entries in details for token, value in entries)


def _perplexity(log_probabilities: Sequence[float]) -> float:
    return math.exp(-math.fsum(log_probabilities) / len(log_probabilities))


def _continued(reference: "Callable[[Tensor], Tensor]", prompt: Sequence[int]) -> list[int]:
    """A prompt with its most probable continuation, token by token."""
    import torch

    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(GENERATED):
            tokens.append(int(reference(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens
