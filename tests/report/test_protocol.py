"""The conditions of a run as its page lists them."""

import json
from collections.abc import Callable, Sequence

from prunecast.report import protocol
from prunecast.report.facts import Facts


def budget_of(facts: Facts) -> str:
    (row,) = [row for table in protocol.section(facts).tables for row in table.rows if row[0] == "budget"]
    return row[1]


def test_the_budget_says_the_context_it_was_counted_at(compared_with: Callable[[Sequence[str]], Facts]) -> None:
    facts = compared_with(["uniform"])
    plain = budget_of(facts)
    assert plain.startswith("parameters ≤ ")
    spec = json.loads(facts.record.spec_json)
    spec["budget"]["context"] = 8192
    facts.__dict__["spec"] = spec
    assert budget_of(facts) == f"{plain}, at 8,192 tokens of context"
