"""Instructions as training examples, compared with prompts written out here."""

from typing import Any

import pytest

from prunecast.data import instruction_examples
from prunecast.errors import DataError

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nAdd {them}.\n\n### Input:\n1, 2\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nAdd {them}.\n\n### Response:\n"
)
END = 7


class Letters:
    """A tokenizer whose tokens are code points, implementing only the interface in use."""

    eos_token_id: int | None = END
    unk_token_id = None

    def __call__(self, texts: list[str] | str, *, add_special_tokens: bool, verbose: bool) -> dict[str, Any]:
        assert not add_special_tokens
        one = isinstance(texts, str)
        return {"input_ids": list(map(ord, texts)) if one else [list(map(ord, text)) for text in texts]}

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def row(given: str = "", output: str = "3") -> dict[str, str]:
    return {"instruction": "Add {them}.", "input": given, "output": output}


def text(ids: tuple[int, ...]) -> str:
    return "".join(map(chr, ids))


@pytest.mark.parametrize(("given", "prompt"), [("1, 2", WITH_INPUT), ("", WITHOUT_INPUT)])
def test_example_is_prompt_response_and_end_token(given: str, prompt: str) -> None:
    [example] = instruction_examples(Letters(), [row(given)], 1000)  # type: ignore[arg-type]
    assert text(example.ids[: example.prompt]) == prompt
    assert text(example.ids[example.prompt :]) == "3" + chr(END)


def test_a_tokenizer_without_an_end_token_adds_none() -> None:
    letters = Letters()
    letters.eos_token_id = None
    [example] = instruction_examples(letters, [row()], 1000)  # type: ignore[arg-type]
    assert text(example.ids[example.prompt :]) == "3"


def test_long_responses_are_truncated_and_empty_ones_left_out() -> None:
    rows = [row(output="abcdef"), row("a long input"), row(output="xy")]
    examples = instruction_examples(Letters(), rows, len(WITHOUT_INPUT) + 3)  # type: ignore[arg-type]
    assert [text(example.ids[example.prompt :]) for example in examples] == ["abc", "xy" + chr(END)]


def test_no_room_for_any_response_is_an_error() -> None:
    with pytest.raises(DataError, match="none of 1 instructions leaves room for its answer in 20 tokens"):
        instruction_examples(Letters(), [row()], 20)  # type: ignore[arg-type]


def test_rows_without_instructions_are_an_error() -> None:
    with pytest.raises(DataError, match="instruction, input, output"):
        instruction_examples(Letters(), [{"text": "a"}], 20)  # type: ignore[arg-type]


def test_a_token_in_front_belongs_to_the_prompt_and_counts_towards_the_length() -> None:
    length = len(WITHOUT_INPUT) + 3
    [example] = instruction_examples(Letters(), [row(output="abcdef")], length, [5])  # type: ignore[arg-type]
    assert example.ids[0] == 5
    assert text(example.ids[1 : example.prompt]) == WITHOUT_INPUT
    assert (text(example.ids[example.prompt :]), len(example.ids)) == ("ab", length)
