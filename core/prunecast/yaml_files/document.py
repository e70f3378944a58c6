"""YAML text as plain data, with the place of every value; spellings that YAML 1.1 misreads are refused."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import yaml
from yaml.composer import ComposerError
from yaml.constructor import SafeConstructor
from yaml.reader import ReaderError
from yaml.resolver import Resolver

from prunecast.errors import SpecError

KeyPath = tuple[str | int, ...]
"""Keys and list positions on the way from the top of a document to one of its values."""

_TYPED = "--set "
"""Start of the name of an override in marks and messages."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_EXPONENT = re.compile(r"([-+]?)(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE]([-+]?)(\d+)")
_LEADING_ZERO = re.compile(r"([-+]?)0[0_]*(\d[\d_]*)")
_ASSIGNED_PATH = re.compile(r'(?:"[^"]+"|[^".=]+)(?:\.(?:"[^"]+"|[^".=]+))*')
_PATH_PART = re.compile(r'"([^"]+)"|([^".]+)')


MOST_VALUES = 10_000
"""Largest number of keys and values in a document, those behind an alias counted each time it is used."""

_MOST_LEVELS = 100
_MOST_NUMERIC = 100
"""Largest number of characters of a number, a date or a truth value."""


class Place(NamedTuple):
    """Position of a key or value: ``source`` is a file, or ``--set KEY=VALUE``; line and column count from 1."""

    source: str
    line: int
    column: int


@dataclass(frozen=True)
class Problem:
    """One mistake in a document. Its text is ``source:line:column: dotted.path: message``."""

    place: Place
    path: KeyPath
    message: str

    def __str__(self) -> str:
        where = "{}:{}:{}: ".format(*self.place)
        return where + (f"{dotted(self.path)}: " if self.path else "") + self.message


def dotted(path: KeyPath) -> str:
    """Path in the form that ``--set`` takes: parts joined by dots, a part that contains dots in double quotes."""
    return ".".join(f'"{part}"' if "." in str(part) else str(part) for part in path)


@dataclass(frozen=True)
class Document:
    """A YAML document whose top level is a mapping.

    Attributes:
        source: its name in messages, usually the path of the file.
        root: the node tree; every node has marks of its place.
        problems: refused spellings: duplicate keys, keys that are not text, tags, and scalars that YAML 1.1 reads
            differently from what their author most likely meant. ``data`` can be used in spite of them.
    """

    source: str
    root: yaml.MappingNode
    problems: tuple[Problem, ...]

    @classmethod
    def parse(cls, text: str, source: str, such_as: str = "model: {source: NAME}") -> "Document":
        """Document of ``text``; ``such_as`` is a mapping that messages show.

        Raises:
            SpecError: it is not YAML, is empty, or is not a mapping at the top level.
        """
        try:
            root = _compose(text, source)
        except _RefusedError as error:
            raise SpecError([str(error.problem)]) from error
        if not isinstance(root, yaml.MappingNode):
            found = "the file is empty" if root is None else f"the top level is a {_kind(root)}"
            place = Place(source, 1, 1) if root is None else _place(root.start_mark)
            raise SpecError([str(Problem(place, (), f"{found}: write a mapping, such as {such_as}"))])
        return cls(source, root, tuple(_refused_spellings(root, ())))

    @property
    def data(self) -> dict[str, Any]:
        """Content as dicts, lists, strings, numbers, booleans and None, with anchors and merge keys resolved."""
        return {key: _data(value) for key, (_, value) in _entries(self.root).items()}

    @property
    def typed(self) -> frozenset[str]:
        """Every text among the values of overrides."""
        return frozenset(node.value for node in _scalars(self.root) if node.start_mark.name.startswith(_TYPED))

    def find(self, path: KeyPath) -> tuple[KeyPath, Place, Place]:
        """Follow ``path``, leaving out the parts that do not exist.

        Returns:
            The parts that exist, the place of the last one's key (of its value, in a list), and the place of its value.
            If no part exists, both places are the top of the document.
        """
        existing: KeyPath = ()
        key: yaml.Node = self.root
        value: yaml.Node = self.root
        for part in path:
            if isinstance(value, yaml.MappingNode) and part in (entries := _entries(value)):
                key, value = entries[str(part)]
            elif isinstance(value, yaml.SequenceNode) and isinstance(part, int) and part < len(value.value):
                key = value = value.value[part]
            else:
                continue
            existing += (part,)
        return existing, _place(key.start_mark), _place(value.start_mark)

    def override(self, assignment: str) -> "Document":
        """Document with one value replaced, or added, by ``KEY.PATH=VALUE``; the value is read as YAML.

        A part of the path is a key or the position, counted from 0, of an existing list item; a key with dots is put
        in double quotes. Missing mappings are added, and ``predictor: NAME`` becomes ``predictor: {use: NAME}`` when an
        option is set beside it. An assignment that cannot be applied becomes a problem of the result.
        """
        try:
            path, value = _parse_assignment(assignment)
            root = _with_value(self.root, path, value, 0)
        except _RefusedError as error:
            return replace(self, problems=(*self.problems, error.problem))
        return replace(self, root=root, problems=(*self.problems, *_refused_spellings(value, path)))


class _RefusedError(Exception):
    def __init__(self, place: Place, message: str, path: KeyPath = ()) -> None:
        self.problem = Problem(place, path, message)


# ------------------------------------------------------------------------------------------------ text to nodes


class _Composer(yaml.SafeLoader):
    """Composes a document of bounded size, in which aliases count as what they stand for."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._level = 0
        self._sizes: dict[yaml.Node, int] = {}
        self._heights: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._values
        self._level += 1
        if self.check_event(yaml.AliasEvent):
            anchored: Any = self.anchors.get(event.anchor)
            # A node gets its end mark when it is complete; without one, the alias refers to a node that contains it.
            if anchored is not None and anchored.end_mark is None:
                raise ComposerError(None, None, f"*{event.anchor} is inside &{event.anchor}", event.start_mark)
            known = anchored in self._sizes  # an unknown anchor is an error of its own
            self._count(event, self._sizes[anchored] if known else 0, self._heights[anchored] if known else 0)
            node = super().compose_node(parent, index)
        else:
            self._count(event, 1, 1)
            node = super().compose_node(parent, index)
            if node is not None:
                self._sizes[node] = self._values - before
                self._heights[node] = 1 + max((self._heights[child] for child in _children(node)), default=0)
        self._level -= 1
        return node

    def _count(self, event: Any, values: int, height: int) -> None:
        self._values += values
        place = _place(event.start_mark)
        if self._values > MOST_VALUES:
            message = f"more than {MOST_VALUES:,} values, aliases expanded: remove what multiplies or repeats them"
            raise _RefusedError(place, message)
        if self._level + height > _MOST_LEVELS:
            raise _RefusedError(place, f"nested too deeply: use at most {_MOST_LEVELS} levels")


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (child for pair in node.value for child in pair)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        composer = _Composer(text)
    except ReaderError as error:
        before = text[: error.position]
        place = Place(source, before.count("\n") + 1, error.position - before.rfind("\n"))
        raise _RefusedError(place, f"character {text[error.position]!r} is not allowed: remove it") from error
    composer.name = source
    try:
        return composer.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or composer.get_mark()
        raise _RefusedError(_place(mark), _syntax_message(error)) from error
    except (ValueError, OverflowError) as error:
        raise _RefusedError(_place(composer.get_mark()), f"no such character: {error}") from error


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be read"
    if "'\\t'" in problem:
        return "YAML cannot be indented with tabs: use spaces"
    if "another document" in problem:
        return "the file is one YAML document: remove everything from this --- on"
    context = f" {error.context}" if error.context else ""
    return f"invalid YAML{context}: {problem}"


def _place(mark: yaml.Mark) -> Place:
    return Place(mark.name, mark.line + 1, mark.column + 1)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.CollectionNode):
        return "list" if isinstance(node, yaml.SequenceNode) else "mapping"
    return "single value"


# ------------------------------------------------------------------------------------------------ nodes to data


def _entries(node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Key and value nodes by key; own keys override merged ones, and earlier sources of a merge override later ones."""
    own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key, value in node.value:
        if key.tag == _MERGE:
            for source in reversed(_merge_sources(value)):
                merged |= _entries(source) if isinstance(source, yaml.MappingNode) else {}
        elif isinstance(key, yaml.ScalarNode):
            own[key.value] = (key, value)
    return merged | own


def _merge_sources(value: yaml.Node) -> list[yaml.Node]:
    return value.value if isinstance(value, yaml.SequenceNode) else [value]


def _data(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {key: _data(value) for key, (_, value) in _entries(node).items()}
    if isinstance(node, yaml.SequenceNode):
        return [_data(item) for item in node.value]
    return node.value if _refused(node) else _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    return SafeConstructor().construct_document(node)


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Values of a node and of those in it; not its keys."""
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from _scalars(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, yaml.ScalarNode):
        yield node


# -------------------------------------------------------------------------------------------- refused spellings


def _refused_spellings(node: yaml.Node, path: KeyPath) -> Iterator[Problem]:
    if message := _refused(node):
        yield Problem(_place(node.start_mark), path, message)
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield from _refused_spellings(item, (*path, position))
    elif isinstance(node, yaml.MappingNode):
        yield from _refused_keys(node, path)
        for key, value in node.value:
            yield from _refused_spellings(value, path if key.tag == _MERGE else (*path, key.value))


def _refused_keys(node: yaml.MappingNode, path: KeyPath) -> Iterator[Problem]:
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        place = _place(key.start_mark)
        if key.tag == _MERGE:
            if not all(isinstance(source, yaml.MappingNode) for source in _merge_sources(value)):
                yield Problem(place, path, "<< merges mappings only: write an alias of a mapping after it")
        elif key.tag != f"{_TAG}str":
            shown = f'"{key.value}"' if isinstance(key, yaml.ScalarNode) else f"a {_kind(key)}"
            fix = "put it in quotes" if isinstance(key, yaml.ScalarNode) else "write a plain word"
            yield Problem(place, path, f"the key {shown} is not text in YAML: {fix}")
        elif key.value in first_lines:
            message = f"written twice, first on line {first_lines[key.value]}: remove one"
            yield Problem(place, (*path, key.value), message)
        else:
            first_lines[key.value] = place.line


def _refused(node: yaml.Node) -> str:
    """Reason why the tag or the spelling of a node is refused; empty if it is not."""
    plain = getattr(node, "style", None) is None
    implicit_tag = Resolver().resolve(type(node), node.value, (plain, not plain))  # type: ignore[no-untyped-call]
    if node.tag != implicit_tag:
        return f"the tag !{node.tag.removeprefix(_TAG)} is not supported: remove it"
    return _refused_spelling(node) if plain and isinstance(node, yaml.ScalarNode) else ""


def _refused_spelling(node: yaml.ScalarNode) -> str:
    text, tag = node.value, node.tag.removeprefix(_TAG)
    if len(text) > _MOST_NUMERIC:
        # The patterns and conversions below may take time that grows with the square of the length.
        return "" if tag == "str" else f"{text[:40]}... cannot be read as a number: put it in quotes for text"
    as_text = f'"{text}" for text'
    if tag == "str" and (match := _EXPONENT.fullmatch(text)):
        return f"YAML reads {text} as text: write {_exponent_spelling(match)} for a number, {as_text}"
    if tag in ("int", "str") and (match := _LEADING_ZERO.fullmatch(text)):
        return f"YAML reads {text} as an octal number: write {match[1]}{match[2]} for a number, {as_text}"
    if tag == "bool" and text not in ("true", "false"):
        return f"YAML reads {text} as {str(_scalar(node)).lower()}: write {str(_scalar(node)).lower()}, or {as_text}"
    if tag in ("int", "float") and ":" in text:
        return f"YAML reads {text} as the base-60 number {_scalar(node)}: write {as_text}"
    if tag == "timestamp":
        return f"YAML reads {text} as a date: write {as_text}"
    if tag == "value":
        return f"YAML gives {text} a meaning of its own: write {as_text}"
    return _refused_number(node) if tag in ("int", "float") else ""


def _refused_number(node: yaml.Node) -> str:
    try:
        return "" if math.isfinite(_scalar(node)) else f"{node.value} is not finite: write a finite number"
    except (ValueError, OverflowError):
        return f"{node.value[:40]} cannot be read as a number: correct it, or put it in quotes for text"


def _exponent_spelling(match: re.Match[str]) -> str:
    sign, mantissa, power_sign, power = match.groups()
    whole, _, fraction = mantissa.partition(".")
    return f"{sign}{whole or 0}.{fraction or 0}e{power_sign or '+'}{power}"


# ---------------------------------------------------------------------------------------------------- overrides


def _parse_assignment(assignment: str) -> tuple[KeyPath, yaml.Node]:
    source = f"{_TYPED}{assignment}"
    match = _ASSIGNED_PATH.match(assignment)
    if match is None or not assignment.startswith("=", match.end()):
        raise _RefusedError(Place(source, 1, 1), "write KEY.PATH=VALUE, e.g. evaluators.0.tokens=2048")
    parts = [quoted or plain for quoted, plain in _PATH_PART.findall(match[0])]
    path = tuple(int(part) if part.isdecimal() else part for part in parts)
    mark = yaml.Mark(source, 0, 0, 0, None, 0)
    value = _compose(assignment[match.end() + 1 :], source)
    return path, value or yaml.ScalarNode(f"{_TAG}null", "", mark, mark)


def _with_value(node: yaml.Node, path: KeyPath, value: yaml.Node, depth: int) -> Any:
    """Copy of ``node`` with ``value`` at ``path[depth:]``; aliases share nodes, so none is changed in place."""
    if depth == len(path):
        return value
    part = path[depth]
    if isinstance(node, yaml.SequenceNode):
        if not isinstance(part, int) or part >= len(node.value):
            message = f"no item {part!r} in this list: write 0 to {len(node.value) - 1}, or replace the whole list"
            raise _RefusedError(_place(value.start_mark), message, path[: depth + 1])
        items = list(node.value)
        items[part] = _with_value(items[part], path, value, depth + 1)
        return yaml.SequenceNode(node.tag, items, node.start_mark, node.end_mark)
    entries = _entries_for_override(node, path[:depth], value)
    key, child = entries.get(str(part), (_text_node(str(part), value.start_mark), _empty_node(value.start_mark)))
    entries[str(part)] = key, _with_value(child, path, value, depth + 1)
    return yaml.MappingNode(f"{_TAG}map", list(entries.values()), node.start_mark, node.end_mark)


def _entries_for_override(node: yaml.Node, path: KeyPath, value: yaml.Node) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        return _entries(node)
    if node.tag == f"{_TAG}null":
        return {}
    if node.tag == f"{_TAG}str":
        return {"use": (_text_node("use", node.start_mark), node)}
    raise _RefusedError(_place(value.start_mark), f"{node.value} is a single value and has no keys", path)


def _text_node(text: str, mark: yaml.Mark) -> yaml.Node:
    return yaml.ScalarNode(f"{_TAG}str", text, mark, mark)


def _empty_node(mark: yaml.Mark) -> yaml.Node:
    return yaml.MappingNode(f"{_TAG}map", [], mark, mark)
