"""Accuracy on multiple-choice questions, answered by the choice of highest likelihood."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
    split_label,
)
from prunecast_plugins.evaluators.branches import Branches, read
from prunecast_plugins.evaluators.logits import next_token_losses
from prunecast_plugins.evaluators.naming import metric_name
from prunecast_plugins.evaluators.padding import chunks
from prunecast_plugins.evaluators.questions import Question, QuestionBos, hash_of, read_questions

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pair = tuple[str, str]
"""A context, and the text after it that is scored."""


class MultipleChoiceOptions(PluginOptions):
    """Options of the multiple-choice evaluator."""

    immaterial = frozenset({"batch"})

    dataset: str = Field(description="name of a data set of questions, or path of a .jsonl file")
    split: str = Field(default="validation", description="part of the data set")
    questions: int | None = Field(
        default=None, ge=1, description="number of questions, from the first; all if left out"
    )
    normalise: Literal["bytes", "tokens", "none"] = Field(
        default="bytes",
        description="divisor of a choice's log-likelihood: its number of bytes, its number of tokens, or none",
    )
    batch: int = Field(default=8, ge=1, description="questions per forward pass; does not change the result")
    bos: QuestionBos = "auto"


@dataclass(frozen=True)
class Choice:
    """Tokens of a context followed by a choice.

    Attributes:
        tokens: token ids of both.
        start: index of the first token of the choice.
        size: divisor of the log-likelihood.
    """

    tokens: list[int]
    start: int
    size: int


@dataclass(frozen=True)
class Problem:
    """A tokenised question: its choices and the index of the right one."""

    choices: list[Choice]
    answer: int

    @cached_property
    def layout(self) -> Branches:
        """All choices packed into one row, their common prefix once."""
        return Branches.of([choice.tokens for choice in self.choices])

    @property
    def longest(self) -> int:
        """Number of tokens of the longest choice with its context."""
        return max(len(choice.tokens) for choice in self.choices)


class MultipleChoice(Evaluator[MultipleChoiceOptions]):
    """Fraction of questions for which the right choice has the highest log-likelihood after the question.

    By default the log-likelihood of a choice is divided by the bytes of its text (``normalise: bytes``), as in
    ``acc_bytes`` of lm-eval, which equals ``acc_norm`` for ASCII text; ``none`` corresponds to ``acc``. Zero-shot, no
    special tokens but that of ``bos`` in front of the question, prompts as in lm-eval 0.4:

    ================================= =========================== =========================
    data set                          context                     scored text
    ================================= =========================== =========================
    arc_*, piqa, any other            ``Question: Q\\nAnswer:``    `` CHOICE``
    openbookqa                        ``Q``                       `` CHOICE``
    social_iqa                        ``Q: Q\\nA:``                `` CHOICE``
    winogrande                        Q up to ``_``, the choice   `` `` and Q after ``_``
    ================================= =========================== =========================

    The common prefix of the choices of a question, usually the question itself, is computed once. The first choice wins
    a tie. The standard error is binomial.
    """

    options_model = MultipleChoiceOptions

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Tokenise the questions.

        Raises:
            DataError: there are too few questions, a row is not a question, one exceeds the model's context, they are
                not for this tokenizer, or ``bos`` asks for a token that the tokenizer does not have.
        """
        options = self.options
        questions = read_questions(options.dataset, options.split, data_dir)
        wanted = len(questions) if options.questions is None else options.questions
        if not 0 < wanted <= len(questions):
            split = split_label(options.dataset, options.split)
            raise DataError(
                f"data set {options.dataset}, {split}: {len(questions):,} questions, {wanted:,} are wanted; ask for "
                "fewer"
            )
        try:
            self._problems = self._tokenise(tokenizer, questions[:wanted], shape)
        except DataError as error:
            raise DataError(f"data set {options.dataset}, split {options.split}: {error}") from error
        too_long = [n for n, problem in enumerate(self._problems, start=1) if problem.longest > shape.context]
        if too_long:
            raise DataError(
                f"data set {options.dataset}, split {options.split}: question {too_long[0]} has "
                f"{self._problems[too_long[0] - 1].longest:,} tokens, the model's context is {shape.context:,}; "
                "shorten or remove it"
            )

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``DATASET.SPLIT.accuracy``."""
        return (Metric(metric_name(self.options.dataset, self.options.split, "accuracy"), "maximize", "fraction"),)

    @property
    def data_hash(self) -> str:
        """Hash of all token ids, of the start and divisor of every choice, and of the answers."""
        return hash_of(
            numbers
            for problem in self._problems
            for numbers in [[problem.answer], *([c.start, c.size, *c.tokens] for c in problem.choices)]
        )

    @property
    def tokens(self) -> int:
        """Number of tokens fed to the model, including padding; common prefixes of choices count once."""
        return sum(len(batch) * max(len(problem.layout.row) for problem in batch) for batch in self._batches())

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Fraction of correct answers."""
        right = [
            max(range(len(scores)), key=scores.__getitem__) == problem.answer
            for batch in self._batches()
            for problem, scores in zip(batch, self._scores(model, batch), strict=True)
        ]
        accuracy = sum(right) / len(right)
        error = math.sqrt(accuracy * (1 - accuracy) / len(right))
        return [Measurement(self.metrics[0], accuracy, error, len(right))]

    def _tokenise(
        self, tokenizer: "PreTrainedTokenizerBase", questions: list[Question], shape: ModelShape
    ) -> list[Problem]:
        options = self.options
        bos = bos_tokens(options.bos, tokenizer, shape)
        by_question = [_pairs(options.dataset, question) for question in questions]
        pairs = [_with_leading_space(pair) for pairs in by_question for pair in pairs]
        contexts, wholes = (
            [[*bos, *ids] for ids in encode(tokenizer, texts)]
            for texts in ([context for context, _ in pairs], [context + scored for context, scored in pairs])
        )
        check_embedded(tokenizer, chain.from_iterable(wholes), shape.vocabulary)
        choices = (
            Choice(whole, start, self._size(scored, len(whole) - start))
            for (_, scored), context, whole in zip(pairs, contexts, wholes, strict=True)
            # The first token has no prediction, and a tokenizer may merge across the end of the context.
            for start in [max(1, min(len(context), len(whole) - 1))]
        )
        return [Problem([next(choices) for _ in question.choices], question.answer) for question in questions]

    def _size(self, scored: str, tokens: int) -> int:
        sizes = {"bytes": len(scored.strip().encode()), "tokens": tokens, "none": 1}
        return max(1, sizes[self.options.normalise])

    def _batches(self) -> list[list[Problem]]:
        lengths = [len(problem.layout.row) for problem in self._problems]
        return list(chunks(self._problems, lengths, self.options.batch))

    def _scores(self, model: "PreTrainedModel", batch: Sequence[Problem]) -> list[list[float]]:
        """Normalised log-likelihood of each choice of each problem. Raises EvaluationError if one is not finite."""
        scores = (-_losses(model, batch)).tolist()
        if not all(map(math.isfinite, scores)):
            raise EvaluationError(f"multiple_choice on {self.options.dataset}: the model's logits are not finite")
        each = iter(scores)
        return [[next(each) / choice.size for choice in problem.choices] for problem in batch]


def _losses(model: "PreTrainedModel", batch: Sequence[Problem]) -> "torch.Tensor":
    """Negative log-likelihood of each choice of each problem after its context, float32 of shape (choices,)."""
    import torch

    hidden = read(model, [problem.layout for problem in batch])
    choices = [(row, number, one) for row, problem in enumerate(batch) for number, one in enumerate(problem.choices)]
    scored = [
        (owner, row, before, token)
        for owner, (row, number, choice) in enumerate(choices)
        for before, token in zip(
            batch[row].layout.columns(number)[choice.start - 1 :], choice.tokens[choice.start :], strict=False
        )
    ]
    owners, rows, columns, tokens = torch.tensor(scored, device=hidden.device).T
    losses = next_token_losses(model, hidden[rows, columns], tokens)
    return losses.new_zeros(len(choices)).index_add(0, owners, losses)


def _pairs(dataset: str, question: Question) -> list[Pair]:
    return _PROMPTS.get(dataset, _answer_after_question)(question)


def _answer_after_question(row: Question) -> list[Pair]:
    return [(f"Question: {row.question}\nAnswer:", f" {choice}") for choice in row.choices]


def _continuation(row: Question) -> list[Pair]:
    return [(row.question, f" {choice}") for choice in row.choices]


def _initials(row: Question) -> list[Pair]:
    return [(f"Q: {row.question}\nA:", f" {choice}") for choice in row.choices]


def _blank(row: Question) -> list[Pair]:
    before, blank, after = row.question.partition("_")
    if not blank:
        raise DataError(f"data set winogrande: no blank _ in {row.question!r}; every question has to have one")
    return [(before + choice, f" {after.strip()}") for choice in row.choices]


_PROMPTS: Mapping[str, Callable[[Question], list[Pair]]] = {
    "openbookqa": _continuation,
    "social_iqa": _initials,
    "winogrande": _blank,
}


def _with_leading_space(pair: Pair) -> Pair:
    """The pair with trailing white space moved from the context to the scored text, as tokenizers join it to a word."""
    context, scored = pair
    kept = context.rstrip()
    return kept, context[len(kept) :] + scored
