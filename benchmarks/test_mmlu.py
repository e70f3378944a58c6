"""Savings by reuse of a subject's five solved examples: tokens on all of MMLU, time on a few subjects."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from bench import Bench, medians

from prunecast_plugins.evaluators.mmlu import MMLU, MMLUOptions

pytestmark = [
    pytest.mark.usefixtures("inference"),
    pytest.mark.skipif("PRUNECAST_DATA" not in os.environ, reason="needs MMLU: set PRUNECAST_DATA"),
]

SUBJECTS = ("abstract_algebra", "nutrition", "world_religions")


def prepared(bench: Bench, **options: Any) -> MMLU:
    evaluator = MMLU(MMLUOptions(**options))
    evaluator.prepare(bench.setup.tokenizer, bench.setup.shape, None)
    return evaluator


@pytest.mark.parametrize(("questions", "target"), [(None, 5), (5, 2.5)], ids=["all", "five"])
def test_tokens(questions: int | None, target: float, bench: Bench, report: Callable[[str], None]) -> None:
    counts = [prepared(bench, questions_per_subject=questions, reuse_prefix=reuse).tokens for reuse in (False, True)]
    each = "all questions" if questions is None else f"{questions} questions per subject"
    report(f"MMLU, {each}: tokens without / with reuse   {counts[0] / counts[1]:.2f}   (target {target})")


def test_time(bench: Bench, report: Callable[[str], None]) -> None:
    shared = {"questions_per_subject": 5, "subjects": list(SUBJECTS)}
    without, reusing = (prepared(bench, reuse_prefix=reuse, **shared) for reuse in (False, True))
    bench.elastic.apply(bench.architecture)
    model = bench.elastic.model
    assert without.evaluate(model) == reusing.evaluate(model)
    slow, fast = medians(lambda: without.evaluate(model), lambda: reusing.evaluate(model), rounds=1)
    report(f"MMLU, 5 questions of 3 subjects: time without / with reuse   {slow / fast:.2f}   (same answers)")
