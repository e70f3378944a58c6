"""One line of the messages of other people's errors."""

import pytest
from transformers import LlamaConfig

from prunecast.errors import one_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", "ValueError"),
        ("  too short\nand more", "too short"),
        ("invalid:\n\n    because it is short\n    and more", "invalid: because it is short"),
        ("one:\n  two:\n    three", "one: two: three"),
        ("nothing follows:", "nothing follows:"),
    ],
)
def test_a_heading_and_what_is_under_it_are_one_line(message: str, line: str) -> None:
    assert one_line(ValueError(message)) == line


def test_a_config_that_transformers_refuses_keeps_the_reason() -> None:
    with pytest.raises(Exception, match="Validation error") as refused:
        LlamaConfig(intermediate_size=24.5)
    assert "'intermediate_size' expected int, got float (value: 24.5)" in one_line(refused.value)
