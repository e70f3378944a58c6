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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunecast.errors import EngineMissingError, ExportError
from prunecast.export.comparison import GENERATED, Expected, expected_of, perplexity
from prunecast.export.gguf.plan import Dtype
from prunecast.export.gguf.pre_tokenizers import PROBE
from prunecast.plugins.exporter import Parity, Reference

if TYPE_CHECKING:
    from torch import Tensor

ENGINE = "xllamacpp"
"""Distribution that brings llama.cpp."""

_SCRIPT = Path(__file__).with_name("engine.py")

TOP = 64
"""Number of the most probable tokens that are compared at a position."""

LOG_PROBABILITY: dict[Dtype, float] = {"f32": 0.05, "f16": 0.05, "bf16": 0.5}
"""Largest allowed difference between log-probabilities, by format; quantised weights differ, and have no limit."""

PERPLEXITY: dict[Dtype, float] = {"f32": 0.005, "f16": 0.005, "bf16": 0.02, "q8_0": 0.02, "q4_0": 0.5}
"""Largest allowed relative difference between perplexities, by format. Four bits lose much in small models: the limit
tells a damaged file from a rounded one, not a good file from a bad one."""


_OTHER_TOKENS = (
    "llama.cpp splits some text, such as numbers, into other tokens by this tokenizer than transformers, in which the "
    "model was measured"
)


def engine_version() -> str | None:
    """Version of the installed engine; None if there is none."""
    try:
        return importlib.metadata.version(ENGINE)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing_engine() -> str | None:
    """A sentence on what to install for the engine; None if it is installed."""
    if engine_version() is not None and find_spec(ENGINE) is not None:
        return None
    return f"llama.cpp is not installed to verify GGUF files: pip install {ENGINE}"


def verify_gguf(
    file: Path, dtype: Dtype, reference: Reference, encode: Callable[[str], Sequence[int]], copied: bool = False
) -> Parity:
    """Compare a file in llama.cpp, in a fresh process, with the measured model.

    The perplexities leave out the first token of each window, and tokens that end in the middle of a character, for
    which the engine reports no probability.

    Args:
        file: the file.
        dtype: number format of its matrices.
        reference: the measured model.
        encode: the model's tokenizer, without special tokens.
        copied: True if the file has the tokenizer of the GGUF file that the model came from. If transformers splits
            text differently from llama.cpp by it, that is noted, not an error.

    Raises:
        EngineMissingError: the engine is not installed.
        ExportError: the file does not load, or it is not the measured model.
    """
    if missing := missing_engine():
        raise EngineMissingError(missing)
    version = engine_version() or ""
    expected = expected_of(reference)
    if expected is None:
        raise ExportError(f"{file.name} cannot be verified: the text to compare on has no two tokens")
    reply = _run(file, _request(expected))
    other = list(encode(PROBE)) != reply["tokens"]
    if other and not copied:
        raise ExportError(f"{file.name}: llama.cpp splits text into other tokens than the model's tokenizer")
    parity = _parity(version, expected, reply)
    if problems := _problems(parity, dtype):
        raise ExportError(f"{file.name} in llama.cpp is not the measured model: {'; '.join(problems)}")
    return replace(parity, notes=(_OTHER_TOKENS,)) if other else parity


def _request(expected: Expected) -> dict[str, Any]:
    """Request to the engine, with the fields of its class."""
    import torch

    return {
        "windows": expected.windows,
        "detailed": len(expected.detailed),
        "top": TOP,
        "continued": [*expected.prompt, *expected.greedy],
        "given": len(expected.prompt),
        "text": PROBE,
        "context": len(expected.windows[0]) + GENERATED,
        "threads": torch.get_num_threads(),
    }


def _parity(version: str, expected: Expected, reply: Mapping[str, Any]) -> Parity:
    details = [(place, entries) for place, entries in enumerate(reply["most_probable"]) if entries]
    generated = [pair for pair in zip(expected.greedy, reply["preferred"], strict=True) if pair[1] is not None]
    compared = [
        pair
        for found, wanted in zip(reply["log_probabilities"], expected.of_tokens, strict=True)
        for pair in zip(found, wanted, strict=True)
        if pair[0] is not None
    ]
    return Parity(
        engine=f"llama.cpp ({ENGINE} {version})",
        compared=f"log-probabilities of the {TOP} most probable tokens at {len(details)} positions",
        max_difference=_largest_difference(expected.detailed, details),
        greedy_equal=next((place for place, (one, other) in enumerate(generated) if one != other), len(generated)),
        greedy=len(generated),
        tokens=len(compared),
        perplexity=perplexity([found for found, _ in compared]),
        reference_perplexity=perplexity([wanted for _, wanted in compared]),
        load_seconds=reply["load_seconds"],
        prefill=reply["prefill"],
        decode=reply["decode"],
    )


def _problems(parity: Parity, dtype: Dtype) -> list[str]:
    """One clause for each difference beyond the limits of a number format; empty if the file is the measured model."""
    problems = []
    limit = LOG_PROBABILITY.get(dtype, math.inf)
    if not parity.max_difference <= limit:
        problems.append(f"log-probabilities differ by {parity.max_difference:.2g}, {limit:g} is allowed")
    found, wanted = parity.perplexity or math.nan, parity.reference_perplexity or math.nan
    if not abs(found / wanted - 1) <= PERPLEXITY[dtype]:
        problems.append(f"the perplexity is {found:.4g} instead of {wanted:.4g}, {PERPLEXITY[dtype]:.1%} is allowed")
    return problems


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
    """The line of the engine's messages that gives the cause."""
    telling = [line for line in lines if "error loading model:" in line or "GGML_ASSERT" in line]
    return (telling or lines)[-1].strip()


def _largest_difference(expected: "Tensor", details: Sequence[tuple[int, Sequence[tuple[int, float]]]]) -> float:
    """Largest absolute difference over the most probable tokens of some positions."""
    return max(abs(float(expected[place, token]) - value) for place, entries in details for token, value in entries)
