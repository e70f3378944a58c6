"""Reading and hashing of multiple-choice questions."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, ValidationError, model_validator

from prunecast.plugins import Bos, DataError, content_hash, place_of, read_rows

if TYPE_CHECKING:
    from pathlib import Path

QuestionBos = Annotated[
    Bos,
    Field(
        description="beginning-of-sequence token in front of each question; auto: for families that need it, such as "
        "Gemma"
    ),
]
"""Type of the option ``bos`` of evaluators that ask questions."""


class Question(BaseModel):
    """One row of a multiple-choice data set; other columns are ignored."""

    question: str = Field(min_length=1)
    choices: list[str] = Field(min_length=2)
    answer: int = Field(ge=0)
    subject: str = ""

    @model_validator(mode="after")
    def _answer_is_a_choice(self) -> "Question":
        if self.answer >= len(self.choices):
            raise ValueError(f"answer {self.answer} is not an index into {len(self.choices)} choices")
        return self


def read_questions(dataset: str, split: str, data_dir: "Path | None") -> list[Question]:
    """All questions of a split, in order.

    Raises:
        DataError: the data are not available, or a row is not a question; the message names the row.
    """
    rows = read_rows(dataset, split, data_dir)
    name = f"{dataset}, split {split}"
    return [_question(row, place_of(row, name, number)) for number, row in enumerate(rows, start=1)]


def hash_of(lists: Iterable[Sequence[int]]) -> str:
    """Hash of lists of integers, including their lengths."""
    import torch

    return content_hash(torch.tensor([number for part in lists for number in (len(part), *part)], dtype=torch.int64))


def _question(row: dict[str, object], place: str) -> Question:
    try:
        return Question.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "row"
        raise DataError(
            f"{place}: {where}: {first['msg']}; a row is "
            '{"question": "...", "choices": ["...", "..."], "answer": INDEX}'
        ) from error
