"""MMLU: few-shot multiple-choice questions of 57 subjects."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from pydantic import Field

from prunecast.plugins import (
    DataError,
    EvaluationError,
    Evaluator,
    Measurement,
    Metric,
    ModelShape,
    PluginOptions,
    bos_tokens,
    check_embedded,
    encode,
    logits_of,
)
from prunecast_plugins.evaluators.branches import common_stem
from prunecast_plugins.evaluators.padding import chunks, padded
from prunecast_plugins.evaluators.questions import Question, QuestionBos, hash_of, read_questions
from prunecast_plugins.evaluators.reading import Reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LETTERS = "ABCD"

SUBJECTS = 57

QUESTIONS = {"test": 14_042, "validation": 1_531, "dev": 285}
"""Number of questions in each split."""

TOKENS_A_QUESTION = 108
"""Mean tokens of a question or solved example, including padding: test split, 5 shots, SmolLM2's tokenizer."""


class MMLUOptions(PluginOptions):
    """Options of the MMLU evaluator."""

    immaterial = frozenset({"batch", "reuse_prefix"})

    split: str = Field(default="test", description="part of the data set with the questions")
    shots: int = Field(default=5, ge=0, description="number of solved examples from the dev part in the prompt")
    subjects: tuple[str, ...] | None = Field(default=None, min_length=1, description="subjects; all if left out")
    questions_per_subject: int | None = Field(
        default=None, ge=1, description="number of questions per subject, from the first; all if left out"
    )
    batch: int = Field(default=8, ge=1, description="questions per forward pass; does not change the result")
    bos: QuestionBos = "auto"
    reuse_prefix: bool = Field(
        default=True, description="true: compute the shared prompt prefix of a subject once; does not change the result"
    )


@dataclass(frozen=True)
class Ending:
    """Remainder of a prompt after its group's prefix, and the index of the right choice."""

    tokens: list[int]
    answer: int


@dataclass(frozen=True)
class Group:
    """Questions of one subject whose prompts share the tokens ``prefix``, which are read only once."""

    subject: str
    prefix: list[int]
    endings: list[Ending]

    def batches(self, size: int) -> Iterator[list[Ending]]:
        """Batches of at most ``size`` endings of similar length."""
        return chunks(self.endings, [len(ending.tokens) for ending in self.endings], size)


class MMLU(Evaluator[MMLUOptions]):
    """Accuracy on MMLU (arXiv 2009.03300), the mean over subjects.

    The prompt is that of the paper's code, https://github.com/hendrycks/test, with one space before the subject::

        The following are multiple choice questions (with answers) about abstract algebra.

        Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.
        A. 0
        B. 1
        C. 2
        D. 3
        Answer: B

        ... four more, then the question, up to "Answer:"

    The answer is the letter with the highest logit; the token of a letter is the last one of ``Answer: A``. No special
    tokens are added but that of ``bos`` in front of the prompt. As in that code, a prompt longer than the model's
    context loses solved examples, the last first.

    The common prefix of all prompts of a subject is read once, and its keys and values are reused for all questions.
    Prompts are tokenised as a whole, so reuse does not change the tokens.

    The standard error is that of a stratified mean over subjects; None if a subject has only one question.
    """

    options_model = MMLUOptions

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Tokenise the prompts.

        Raises:
            DataError: a subject is unknown or has too few questions, a question is longer than the model's context,
                the tokenizer encodes two of the letters as the same token or does not know the text, or ``bos`` asks
                for a token that it does not have.
        """
        solved = _by_subject(read_questions("mmlu", "dev", data_dir))
        asked = _by_subject(read_questions("mmlu", self.options.split, data_dir))
        self._letters = [ids[-1] for ids in encode(tokenizer, [f"Answer: {letter}" for letter in LETTERS])]
        if len(set(self._letters)) < len(LETTERS):
            raise DataError(
                "mmlu: the tokenizer encodes two of the letters A, B, C and D as one token; use multiple_choice"
            )
        prompts = _Prompts(tokenizer, shape, bos_tokens(self.options.bos, tokenizer, shape))
        self._groups = [
            group
            for subject in self._subjects(asked)
            for group in self._groups_of(subject, solved.get(subject, []), asked[subject], prompts)
        ]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``mmlu.SPLIT.accuracy``."""
        return (Metric(f"mmlu.{self.options.split}.accuracy", "maximize", "fraction"),)

    @property
    def data_hash(self) -> str:
        """Hash of the token ids of all prompts, of the answers, and of the token ids of the letters."""
        return hash_of(
            [
                self._letters,
                *([e.answer, *group.prefix, *e.tokens] for group in self._groups for e in group.endings),
            ]
        )

    @property
    def tokens(self) -> int:
        """Number of tokens fed to the model, including padding; every prefix counts once."""
        return sum(
            len(group.prefix)
            + sum(len(batch) * max(len(e.tokens) for e in batch) for batch in group.batches(self.options.batch))
            for group in self._groups
        )

    @property
    def expected_tokens(self) -> int | None:
        """Estimate from the mean length of questions and solved examples; None for an unknown split."""
        options = self.options
        subjects = len(options.subjects or range(SUBJECTS))
        asked = QUESTIONS.get(options.split, 0) * subjects // SUBJECTS
        if options.questions_per_subject is not None:
            asked = subjects * options.questions_per_subject
        readings = subjects if options.reuse_prefix else asked
        return TOKENS_A_QUESTION * (asked + options.shots * readings) if asked else None

    @property
    def expected_context(self) -> int:
        """Mean length of a prompt."""
        return TOKENS_A_QUESTION * (self.options.shots + 1)

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Mean over subjects of the fraction of correct answers."""
        right: dict[str, list[bool]] = {}
        # A subject has several groups if some of its prompts have lost solved examples.
        for group in self._groups:
            right.setdefault(group.subject, []).extend(self._answer(model, group))
        accuracies = [fmean(answers) for answers in right.values()]
        measured = Measurement(
            self.metrics[0], fmean(accuracies), _error(right.values()), sum(map(len, right.values()))
        )
        return [measured]

    def _subjects(self, asked: dict[str, list[Question]]) -> list[str]:
        wanted = self.options.subjects or tuple(asked)
        unknown = [subject for subject in wanted if subject not in asked]
        if unknown:
            raise DataError(f"mmlu: no subject {unknown[0]!r} in split {self.options.split}; it has {', '.join(asked)}")
        return list(dict.fromkeys(wanted))

    def _groups_of(
        self, subject: str, solved: list[Question], asked: list[Question], prompts: "_Prompts"
    ) -> Iterator[Group]:
        shots, wanted = self.options.shots, self.options.questions_per_subject or len(asked)
        for have, need, what in ((len(solved), shots, "shots"), (len(asked), wanted, "questions")):
            if have < need:
                raise DataError(f"mmlu: subject {subject} has {have} {what}, {need} are wanted; ask for fewer")
        asked = asked[:wanted]
        by_shots: dict[int, list[Ending]] = {}
        for question, (kept, ids) in zip(asked, prompts.of(subject, solved[:shots], asked), strict=True):
            by_shots.setdefault(kept, []).append(Ending(ids, question.answer))
        for endings in by_shots.values():
            yield _shared(subject, endings) if self.options.reuse_prefix else Group(subject, [], endings)

    def _answer(self, model: "PreTrainedModel", group: Group) -> list[bool]:
        """True for each correct answer. Raises EvaluationError if a logit of a letter is not finite."""
        import torch

        start = Reading(model)
        if group.prefix:
            start.read(padded([group.prefix], model.device))
        right: list[bool] = []
        for batch in group.batches(self.options.batch):
            ids = padded([ending.tokens for ending in batch], model.device)
            hidden = start.repeated(len(batch)).read(ids)
            last = torch.tensor([len(ending.tokens) - 1 for ending in batch], device=hidden.device)
            logits = logits_of(model, hidden[torch.arange(len(batch), device=hidden.device), last])[:, self._letters]
            if not logits.isfinite().all():
                raise EvaluationError(f"mmlu, subject {group.subject}: the model's logits are not finite")
            answers = logits.argmax(dim=1).tolist()
            right += [answer == ending.answer for answer, ending in zip(answers, batch, strict=True)]
        return right


class _Prompts:
    """Builds and tokenises prompts with as many solved examples as fit in the context."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, bos: list[int]) -> None:
        self._tokenizer, self._shape, self._bos = tokenizer, shape, bos

    def of(self, subject: str, solved: list[Question], asked: list[Question]) -> list[tuple[int, list[int]]]:
        """Number of solved examples in the prompt of each question, and the token ids of the prompt."""
        texts = [_prompt(subject, solved, question) for question in asked]
        prompts = [[*self._bos, *ids] for ids in encode(self._tokenizer, texts)]
        check_embedded(self._tokenizer, chain.from_iterable(prompts), self._shape.vocabulary)
        return [
            (len(solved), ids) if len(ids) <= self._shape.context else self._shorter(subject, solved, question)
            for question, ids in zip(asked, prompts, strict=True)
        ]

    def _shorter(self, subject: str, solved: list[Question], question: Question) -> tuple[int, list[int]]:
        if not solved:
            raise DataError(
                f"mmlu: a question of {subject} is longer than the model's context, {self._shape.context:,} tokens; "
                "name the other subjects"
            )
        return self.of(subject, solved[:-1], [question])[0]


def _by_subject(questions: list[Question]) -> dict[str, list[Question]]:
    subjects: dict[str, list[Question]] = {}
    for question in questions:
        subjects.setdefault(question.subject, []).append(question)
    return subjects


def _prompt(subject: str, solved: list[Question], question: Question) -> str:
    title = subject.replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {title}.\n\n"
    return head + "".join(f"{_asked(one)} {LETTERS[one.answer]}\n\n" for one in solved) + _asked(question)


def _asked(question: Question) -> str:
    choices = (f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices, strict=True))
    return "\n".join([question.question, *choices, "Answer:"])


def _shared(subject: str, endings: list[Ending]) -> Group:
    """A group with the longest common prefix of the endings, without the last token of the shortest."""
    prefix = common_stem([ending.tokens for ending in endings])
    return Group(subject, prefix, [Ending(ending.tokens[len(prefix) :], ending.answer) for ending in endings])


def _error(answers: Collection[list[bool]]) -> float | None:
    """Standard error of the mean over subjects, from the binomial variance in each; None if one has one question."""
    if any(len(of_subject) < 2 for of_subject in answers):
        return None
    variances = [fmean(right) * (1 - fmean(right)) / (len(right) - 1) for right in answers]
    return math.sqrt(sum(variances)) / len(answers)
