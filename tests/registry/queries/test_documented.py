"""Outputs shown on the page of queries equal those of its commands."""

import re
import shlex

import pytest
from click.testing import CliRunner
from places import REPOSITORY

from prunecast.cli.main import cli

PAGE = (REPOSITORY / "docs" / "guides" / "registry.md").read_text()
QUESTION = re.compile(r"^\$ prunecast (registry (?:best|query|pareto|nearest)(?:.*\\\n)*.*)\n((?:(?![$`]).*\n)+)", re.M)


@pytest.mark.parametrize(("question", "answer"), QUESTION.findall(PAGE))
def test_a_query_prints_the_output_shown_on_the_page(question: str, answer: str) -> None:
    arguments = [*shlex.split(question.replace("\\\n", "")), "--registry", str(REPOSITORY / "registry.db")]
    printed = CliRunner().invoke(cli, arguments, standalone_mode=False).stdout.splitlines()
    shown = [line.removesuffix(" ...") for line in answer.splitlines()]
    assert len(printed) == len(shown)
    assert [line[: len(start)] for line, start in zip(printed, shown, strict=True)] == shown


def test_the_page_has_queries() -> None:
    assert len(QUESTION.findall(PAGE)) == 4
