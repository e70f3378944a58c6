"""Parsing of YAML: ambiguous spellings are refused, and every key and value has a line and column."""

import contextlib
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prunecast.errors import SpecError
from prunecast.yaml_files.document import Document, Place, dotted

words = st.text(string.ascii_letters + " #:'\"\\\n\t[]{}éß🙂", max_size=12)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | words | st.sampled_from(["no", "3:20", "010", "2024-01-01", "="]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def messages(text: str) -> list[str]:
    return [str(problem) for problem in Document.parse(text, "s.yaml").problems]


@given(st.dictionaries(words, values))
def test_output_of_pyyaml_is_read_back_unchanged(data: dict[str, object]) -> None:
    document = Document.parse(yaml.safe_dump(data, allow_unicode=True), "s.yaml")
    assert document.data == data
    assert document.problems == ()


@given(st.text("abeE0123456789.:-+_#&*!<>|%@`{}[],'\"\\ \n\tnyo~=", max_size=40))
def test_any_text_is_parsed_or_refused_without_a_crash(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert isinstance(Document.parse(text, "s.yaml").data, dict)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("1e-4", 'YAML reads 1e-4 as text: write 1.0e-4 for a number, "1e-4" for text'),
        ("2.5E3", 'YAML reads 2.5E3 as text: write 2.5e+3 for a number, "2.5E3" for text'),
        ("-.5e3", 'YAML reads -.5e3 as text: write -0.5e+3 for a number, "-.5e3" for text'),
        ("no", 'YAML reads no as false: write false, or "no" for text'),
        ("On", 'YAML reads On as true: write true, or "On" for text'),
        ("True", 'YAML reads True as true: write true, or "True" for text'),
        ("3:20", 'YAML reads 3:20 as the base-60 number 200: write "3:20" for text'),
        ("010", 'YAML reads 010 as an octal number: write 10 for a number, "010" for text'),
        ("-0_10", 'YAML reads -0_10 as an octal number: write -10 for a number, "-0_10" for text'),
        ("2024-01-31", 'YAML reads 2024-01-31 as a date: write "2024-01-31" for text'),
        ("=", 'YAML gives = a meaning of its own: write "=" for text'),
        (".inf", ".inf is not finite: write a finite number"),
        ("1.0e+999", "1.0e+999 is not finite: write a finite number"),
        ("0x_", "0x_ cannot be read as a number: correct it, or put it in quotes for text"),
        ('!!int "7"', "the tag !int is not supported: remove it"),
        ("!!bool perhaps", "the tag !bool is not supported: remove it"),
        ("!!set {a}", "the tag !set is not supported: remove it"),
    ],
)
def test_ambiguous_yaml_1_1_spellings_are_refused_with_a_suggestion(written: str, message: str) -> None:
    assert messages(f"a: {{b: [0, {written}]}}") == [f"s.yaml:1:12: a.b.1: {message}"]


@pytest.mark.parametrize(
    "written", ["1.0e-4", "true", "false", "0", "-7", "0.5", "1_000", "0x1F", '"no"', "'010'", "~"]
)
def test_unambiguous_spellings_are_accepted(written: str) -> None:
    assert messages(f"a: {written}") == []


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{0,2})?[eE]-?[0-9]{1,2}", fullmatch=True))
def test_the_spelling_suggested_for_an_exponent_has_the_intended_value(written: str) -> None:
    refused = messages(f"a: {written}")
    if "." in written and "-" in written.lower().partition("e")[2]:
        assert refused == []
        suggested = written
    else:
        suggested = refused[0].split(" write ")[1].split(" for a number")[0]
    assert Document.parse(f"a: {suggested}", "s").data == {"a": float(written)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 2, c: 3}\n", "s.yaml:2:11: b.c: written twice, first on line 2: remove one"),
        ("a: 1\nb: 2\na: 3\n", "s.yaml:3:1: a: written twice, first on line 1: remove one"),
        ("a: {on: 1}\n", 's.yaml:1:5: a: the key "on" is not text in YAML: put it in quotes'),
        ("1: 2\n", 's.yaml:1:1: the key "1" is not text in YAML: put it in quotes'),
        ("a: {[x]: 1}\n", "s.yaml:1:5: a: the key a list is not text in YAML: write a plain word"),
        ("a: {<<: 3}\n", "s.yaml:1:5: a: << merges mappings only: write an alias of a mapping after it"),
    ],
)
def test_an_invalid_key_is_refused_with_its_place(text: str, message: str) -> None:
    assert messages(text) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml:1:1: the file is empty: write a mapping, such as model: {source: NAME}"),
        ("# only a comment\n", "s.yaml:1:1: the file is empty: write a mapping, such as model: {source: NAME}"),
        ("\n- a\n", "s.yaml:2:1: the top level is a list: write a mapping, such as model: {source: NAME}"),
        ("text", "s.yaml:1:1: the top level is a single value: write a mapping, such as model: {source: NAME}"),
        ("a:\n\tb: 1\n", "s.yaml:2:1: YAML cannot be indented with tabs: use spaces"),
        ("a: 1\n---\nb: 2\n", "s.yaml:2:1: the file is one YAML document: remove everything from this --- on"),
        ("a: 1\nb: \x07\n", "s.yaml:2:4: character '\\x07' is not allowed: remove it"),
        ("a: &x [1, *x]\n", "s.yaml:1:11: invalid YAML: *x is inside &x"),
        ("a: *x\n", "s.yaml:1:4: invalid YAML: found undefined alias 'x'"),
    ],
)
def test_unreadable_text_is_one_error_with_its_place(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Document.parse(text, "s.yaml")
    assert caught.value.problems == [message]


@pytest.mark.parametrize("text", ['a: "\\UFFFFFFFF"', "[" * 3000, "a: [1, 2\nb: 3\n", "a: b: c\n", '"'])
def test_text_that_crashes_the_parser_is_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError, match=r"^s\.yaml:\d+:\d+: "):
        Document.parse(text, "s.yaml")


def test_merge_keys_have_the_precedence_of_yaml() -> None:
    text = "p: &p {a: 1, b: 1}\nq: &q {b: 2, c: 2}\nr: {<<: [*p, *q], c: 3}\ns: {<<: *p}\n"
    document = Document.parse(text, "s.yaml")
    assert document.problems == ()
    assert document.data == yaml.safe_load(text)
    assert document.find(("r", "a"))[2] == Place("s.yaml", 1, 11)


def test_places_of_keys_and_values_count_from_one() -> None:
    document = Document.parse("# comment\na:\n  - x: 1\n    y: two\n", "s.yaml")
    assert document.find(("a", 0, "y")) == (("a", 0, "y"), Place("s.yaml", 4, 5), Place("s.yaml", 4, 8))
    assert document.find(("a", 0, "int", "y"))[0] == ("a", 0, "y")
    assert document.find(("a", 7)) == (("a",), Place("s.yaml", 2, 1), Place("s.yaml", 3, 3))
    assert document.find(()) == ((), Place("s.yaml", 2, 1), Place("s.yaml", 2, 1))


# ---------------------------------------------------------------------------------------------------- overrides

SPEC = 'list: [&a {n: 1}, *a]\nname: x\nempty:\nnumber: 3\n"d.t": {k: 1}\n'


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("list.0.n=2", ("list", 0, "n"), 2),
        ("list=[]", ("list",), []),
        ("new.deep.key=0.5", ("new", "deep", "key"), 0.5),
        ("empty.k=v", ("empty", "k"), "v"),
        ("name.n=1", ("name",), {"use": "x", "n": 1}),
        ('"d.t".k=a=b', ("d.t", "k"), "a=b"),
        ("name=", ("name",), None),
        ("name={use: y, z: [1]}", ("name",), {"use": "y", "z": [1]}),
    ],
)
def test_an_override_sets_its_value_and_nothing_else(
    assignment: str, path: tuple[str | int, ...], value: object
) -> None:
    before = Document.parse(SPEC, "s.yaml")
    after = before.override(assignment)
    assert after.problems == ()
    found: object = after.data
    for part in path:
        found = found[part]  # type: ignore[index]
    assert found == value
    assert before.data == yaml.safe_load(SPEC)
    untouched = [key for key in before.data if key != path[0]]
    assert all(after.data[key] == before.data[key] for key in untouched)
    assert after.data["list"] == [] or after.data["list"][1] == {"n": 1}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("list.2.n=1", "list.2: no item 2 in this list: write 0 to 1, or replace the whole list"),
        ("list.first=1", "list.first: no item 'first' in this list: write 0 to 1, or replace the whole list"),
        ("number.k=1", "number: 3 is a single value and has no keys"),
        ("number", "write KEY.PATH=VALUE, e.g. evaluators.0.tokens=2048"),
        ("=1", "write KEY.PATH=VALUE, e.g. evaluators.0.tokens=2048"),
        ("a..b=1", "write KEY.PATH=VALUE, e.g. evaluators.0.tokens=2048"),
        ("number=1e3", 'number: YAML reads 1e3 as text: write 1.0e+3 for a number, "1e3" for text'),
        ("list.0.n=no", 'list.0.n: YAML reads no as false: write false, or "no" for text'),
    ],
)
def test_an_invalid_override_is_refused_with_its_text_as_the_place(assignment: str, message: str) -> None:
    (problem,) = Document.parse(SPEC, "s.yaml").override(assignment).problems
    assert str(problem) == f"--set {assignment}:1:1: {message}"


def test_an_invalid_yaml_value_has_a_place_inside_the_override() -> None:
    (problem,) = Document.parse(SPEC, "s.yaml").override("number=[1, }").problems
    assert problem.place == Place("--set number=[1, }", 1, 5)


def test_an_override_does_not_hide_errors_of_the_file() -> None:
    document = Document.parse("a: {b: 1, b: 2}\n", "s.yaml").override("a.b=3")
    assert [problem.place.line for problem in document.problems] == [1]
    assert document.data == {"a": {"b": 3}}


@given(st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=3), values)
def test_any_dotted_path_and_value_can_be_overridden(path: list[str], value: object) -> None:
    written = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    document = Document.parse("z: 1\n", "s.yaml").override(f"{dotted(tuple(path))}={written}")
    found: object = document.data
    for part in path:
        found = found[part]  # type: ignore[index]
    assert document.problems == ()
    assert found == value
