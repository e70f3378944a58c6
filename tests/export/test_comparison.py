"""What the measured model says of a text, computed once for all files that are compared with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_models import CONFIGS, byte_tokenizer, text, written
from pruned_families import prune

from prunecast.export.comparison import DETAILED, GENERATED, PROMPT, expected_of
from prunecast.export.gguf.verify import engine_version, verify_gguf
from prunecast.plugins.exporter import Reference

CONTEXT = 64


class Counted:
    """The logits of a model, with the number of times they were asked for."""

    def __init__(self, logits: "Callable[[torch.Tensor], torch.Tensor]") -> None:
        self._logits, self.times = logits, 0

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        self.times += 1
        return self._logits(tokens)


@pytest.fixture
def counted() -> Counted:
    return Counted(prune(CONFIGS["llama"], "3x1+40*4").logits)


def test_the_numbers_are_those_of_the_model(counted: Counted) -> None:
    tokens = tuple(text(90))
    found = expected_of(Reference(counted, tokens, (3,), CONTEXT))
    assert found is not None
    length = CONTEXT - GENERATED - 1
    assert found.windows == [[3, *tokens[at : at + length]] for at in range(0, 90 - length + 1, length)]
    for window, values in zip(found.windows, found.of_tokens, strict=True):
        logits = counted(torch.tensor([window]))[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(window[1:]), reduction="none")
        torch.testing.assert_close(-torch.tensor(values), losses)
    assert found.detailed.shape == (min(DETAILED, length), CONFIGS["llama"].vocab_size)
    torch.testing.assert_close(found.detailed.exp().sum(-1), torch.ones(length))
    assert found.prompt == found.windows[0][:PROMPT]
    whole = torch.tensor([[*found.prompt, *found.greedy]])
    assert counted(whole)[0, PROMPT - 1 : -1].argmax(-1).tolist() == found.greedy


def test_a_reference_is_asked_once_and_another_one_again(counted: Counted) -> None:
    tokens = tuple(text(90))
    reference = Reference(counted, tokens, (), CONTEXT)
    found, times = expected_of(reference), counted.times
    assert times == GENERATED + len(found.windows if found else ())
    assert expected_of(reference) is found
    assert counted.times == times
    assert expected_of(Reference(counted, tokens, (), CONTEXT)) is not found
    assert counted.times == 2 * times


def test_a_text_of_one_token_is_too_short(counted: Counted) -> None:
    assert expected_of(Reference(counted, (5,), (), CONTEXT)) is None
    assert counted.times == 0


@pytest.mark.skipif(engine_version() is None, reason="xllamacpp, which brings llama.cpp, is not installed")
def test_files_of_two_formats_are_compared_with_the_same_numbers(tmp_path: Path) -> None:
    tokenizer, counts = byte_tokenizer(), []
    encode: Any = lambda words: tokenizer(words, add_special_tokens=False)["input_ids"]  # noqa: E731
    files = [written(tmp_path / dtype, "llama", "3x1+40*4", dtype) for dtype in ("f32", "bf16")]
    counted = Counted(files[0][1].logits)
    reference = Reference(counted, tuple(text(90)), (), CONTEXT)
    for file, _ in files:
        parity = verify_gguf(file.path, file.dtype, reference, encode)
        assert parity.perplexity == pytest.approx(parity.reference_perplexity, rel=0.02)
        counts.append(counted.times)
    assert counts[0] == counts[1] > GENERATED
