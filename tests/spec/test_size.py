"""Specs that are larger than they look, or too large: one line at once."""

import time
from pathlib import Path

import pytest

from prunecast.errors import SpecError
from prunecast.plugins.host import PluginHost
from prunecast.spec.load import load_spec
from prunecast.yaml_files.document import MOST_VALUES, Document
from prunecast.yaml_files.reading import MOST_BYTES


def doubling(levels: int, form: str) -> str:
    """A list or mapping, and ``levels`` others that each have the one before twice."""
    first = {"list": "[x]", "map": "{k: x}", "merge": "{k: x}", "keys": "[x]"}[form]
    twice = {
        "list": "[*a{0}, *a{0}]",
        "map": "{{p: *a{0}, q: *a{0}}}",
        "merge": "{{<<: [*a{0}, *a{0}], k{1}: x}}",
        "keys": "{{[*a{0}, *a{0}]: x}}",
    }[form]
    lines = [f"a0: &a0 {first}", *(f"a{n + 1}: &a{n + 1} " + twice.format(n, n + 1) for n in range(levels))]
    return "\n".join(lines) + "\n"


def refused(text: str) -> str:
    start = time.monotonic()
    with pytest.raises(SpecError) as caught:
        Document.parse(text, "s.yaml").data  # noqa: B018
    assert time.monotonic() - start < 5
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


@pytest.mark.parametrize("form", ["list", "map", "merge", "keys"])
@pytest.mark.parametrize("levels", [20, 60])
def test_aliases_that_multiply_are_refused_at_the_one_that_is_too_much(form: str, levels: int) -> None:
    problem = refused(doubling(levels, form))
    assert "more than 10,000 values, aliases expanded" in problem
    line = int(problem.split(":")[1])
    assert 8 <= line <= 15, "where 2^n passes 10,000"


@pytest.mark.parametrize("form", ["list", "map", "merge"])
def test_aliases_within_reason_are_expanded(form: str) -> None:
    data = Document.parse(doubling(5, form), "s.yaml").data
    assert str(data["a5"]).count("x") == {"list": 32, "map": 32, "merge": 6}[form]


def test_a_chain_of_aliases_is_nested_as_deeply_as_what_it_stands_for() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}]\n" for n in range(200))
    assert refused(chain).startswith("s.yaml:98:")
    assert "nested too deeply: use at most 100 levels" in refused(chain)
    assert Document.parse(chain[: chain.index("a90:")], "s.yaml").data["a0"] == ["x"]


@pytest.mark.parametrize(
    "text",
    ["a: " + "[" * 3000 + "]" * 3000, "a: " + "{b: " * 400 + "}" * 400, "".join("  " * n + "a:\n" for n in range(300))],
    ids=["lists", "mappings", "blocks"],
)
def test_deep_nesting_is_refused(text: str) -> None:
    assert "nested too deeply" in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"k{n}: 1\n" for n in range(40_000)),
        "a: [" + "1," * 200_000 + "]",
        "a:\n" + "- {b: c}\n" * 30_000,
    ],
    ids=["keys", "list", "items"],
)
def test_very_many_values_are_refused(text: str) -> None:
    assert f"more than {MOST_VALUES:,} values" in refused(text)


@pytest.mark.parametrize("number", ["1" * 5000, "1:" * 3000 + "1", "0x" + "f" * 90_000, "1." + "0" * 90_000])
def test_a_number_of_thousands_of_digits_is_refused_at_once(number: str) -> None:
    start = time.monotonic()
    (problem,) = Document.parse(f"seed: {number}\n", "s.yaml").problems
    assert time.monotonic() - start < 2
    assert problem.message.endswith("cannot be read as a number: put it in quotes for text")
    assert len(problem.message) < 120


def test_a_long_text_is_read_at_once() -> None:
    start = time.monotonic()
    for text in ("1" * 200_000 + "x", "0" * 200_000 + "e", "word " * 40_000 + "."):
        assert Document.parse(f"name: {text}\n", "s.yaml").data == {"name": text}
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("source", ["/dev/zero", "big.yaml"])
def test_a_file_without_end_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("big.yaml").write_text("#" * (MOST_BYTES + 1))
    with pytest.raises(SpecError, match=rf"{source}:1:1: larger than 1,048,576 bytes: name the file of a spec"):
        load_spec(source, PluginHost())
