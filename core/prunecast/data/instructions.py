"""Instruction-tuning examples: prompt and answer as token ids, for a loss on the answer only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunecast.data.dataset import Row, place_of
from prunecast.data.tokens import encode
from prunecast.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INTRODUCTION = "Below is an instruction that describes a task"
_REQUEST = "Write a response that appropriately completes the request."
_WITH_INPUT = (
    f"{_INTRODUCTION}, paired with an input that provides further context. {_REQUEST}\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_WITHOUT_INPUT = f"{_INTRODUCTION}. {_REQUEST}\n\n### Instruction:\n{{instruction}}\n\n### Response:\n"

_COLUMNS = ("instruction", "input", "output")


@dataclass(frozen=True)
class Example:
    """One instruction with its answer.

    Attributes:
        ids: token ids of the prompt and the answer, which ends with the end-of-text token unless it was truncated.
        prompt: number of ids that belong to the prompt, which come first.
    """

    ids: tuple[int, ...]
    prompt: int


def instruction_examples(
    tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Row], tokens: int, bos: Sequence[int] = ()
) -> list[Example]:
    """Examples in the prompt format of Alpaca, in the order of the rows.

    Args:
        tokenizer: tokenizer of the model.
        rows: rows with the text columns ``instruction``, ``input`` and ``output``.
        tokens: maximum length of an example. Longer ones are truncated; one whose prompt alone has this length or more
            is left out.
        bos: tokens in front of every prompt; they count towards its length.

    Raises:
        DataError: a row lacks one of the columns, the rows are mostly unknown to the tokenizer, or no example is left.
    """
    for number, row in enumerate(rows, start=1):
        if wrong := [column for column in _COLUMNS if not isinstance(row.get(column), str)]:
            place = place_of(row, "of instructions", number)
            raise DataError(
                f"{place}: {wrong[0]} is not text; instructions need the columns {', '.join(_COLUMNS)}, all text: "
                "correct the row, or choose a data set like alpaca"
            )
    prompts = [(_WITH_INPUT if row["input"] else _WITHOUT_INPUT).format_map(row) for row in rows]
    questions = [[*bos, *ids] for ids in encode(tokenizer, prompts)]
    answers = encode(tokenizer, [row["output"] for row in rows])
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    examples = [
        Example(tuple([*question, *answer, *end][:tokens]), len(question))
        for question, answer in zip(questions, answers, strict=True)
    ]
    usable = [example for example in examples if example.prompt < len(example.ids)]
    if not usable:
        raise DataError(
            f"none of {len(rows):,} instructions leaves room for its answer in {tokens:,} tokens: allow more tokens"
        )
    return usable
