"""Descriptions of families as YAML files: read and checked, and found through the hook ``prunecast_families``."""

import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from prunecast.errors import PluginError, SpecError
from prunecast.keys import content_key
from prunecast.models.families.catalogue import Families
from prunecast.models.families.family import EXPORTED, Family, Variant
from prunecast.models.pruned.classes import code_hash_of
from prunecast.plugins.host import FAMILY, PluginHost, Registered
from prunecast.plugins.isolation import LOAD_SECONDS, isolated
from prunecast.yaml_files.document import Document, KeyPath, Problem
from prunecast.yaml_files.problems import messages_of, problem_of
from prunecast.yaml_files.reading import read_text

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

BUNDLED = "prunecast"
"""Distribution of the bundled descriptions."""

_AS_IN_YAML = {":class:`Family`": "the description", "`": "", r"\bNone\b": "null", r"\bTrue\b": "true"}
"""Replacements that turn documentation of the class into documentation of the file, by regular expression."""

_FAMILY = TypeAdapter(Family)
_FIXED = ("name", "variants")
"""Fields that a variant cannot change."""


def families_of(host: PluginHost, chosen: Family | None = None) -> Families:
    """The families that plugins describe. A file is read when its family is asked for.

    Args:
        host: host of the plugins.
        chosen: description to use for every model, whatever its type; None for the description of the model's type.
    """
    return Families(_Described(host), chosen)


def chosen_family(host: PluginHost, named: str, find: Callable[[str], Path]) -> Family:
    """The description that a spec names: from a plugin, or a file.

    Args:
        host: host of the plugins.
        named: name of a family, or the path of a YAML file.
        find: resolves a path of the spec.

    Raises:
        PluginError: there is none of that name, two plugins provide it, or the file is no description.
    """
    return read_family(find(named)) if is_file_name(named) else family_of(host.find(FAMILY, named))


def is_file_name(named: str) -> bool:
    """True if a spec names the file of a description, not a family."""
    return named.endswith((".yaml", ".yml")) or "/" in named or "\\" in named


def family_of(registered: Registered) -> Family:
    """The description in the file of an entry. The module of its target is imported.

    Raises:
        PluginError: the module or the file cannot be read, or the file is no description of this model type.
    """
    return read_family(file_of(registered), registered.entry.name)


def file_of(registered: Registered) -> Path:
    """The file of an entry, whose target is ``module:path``, the path relative to the folder of the module's file.

    Raises:
        PluginError: the module cannot be imported, or the target names no file.
    """
    module_name, _, path = registered.entry.target.partition(":")
    with isolated(str(registered), f"its import from {registered.entry.target!r}", LOAD_SECONDS):
        module = importlib.import_module(module_name)
    if not path or module.__file__ is None:
        raise PluginError(
            f'{registered}: its target {registered.entry.target!r} names no file: write f"{{__name__}}:NAME.yaml"'
        )
    return Path(module.__file__).parent / path


def read_family(file: Path, name: str | None = None) -> Family:
    """The description in a YAML file.

    Args:
        file: the file.
        name: the model type that it has to describe; None for any.

    Raises:
        PluginError: the file cannot be read or is no such description; the message says where the first mistake is.
    """
    try:
        document = Document.parse(
            read_text(file, "a description of a family"), str(file), "name: llama, the model type of the family"
        )
    except SpecError as error:
        raise PluginError(error.problems[0]) from error
    family, invalid = _validated(document)
    if family is not None and name not in (None, family.name):
        message = f"{family.name!r} is not {name!r}, the name of the family's entry: write the model type in both"
        invalid.append(Problem(document.find(("name",))[2], ("name",), message))
    messages = messages_of(document, invalid)
    if family is None or messages:
        more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
        raise PluginError(f"{messages[0]}{more}")
    return family


def description_hash(host: PluginHost, family: Family, config: "PreTrainedConfig") -> str | None:
    """Hash of a description that is not the bundled one, and of the code of classes that transformers does not have.

    Args:
        host: host of the plugins.
        family: the description that is used, as settled for the config.
        config: config of the model.

    Returns:
        32 hexadecimal digits; None for the bundled description and a class of transformers, as the version of
        prunecast stands for both.
    """
    code = code_hash_of(config)
    kind = config.model_type.removeprefix(EXPORTED)
    bundled = [each for each in host.provided(FAMILY).get(kind, ()) if each.distribution == BUNDLED]
    if code is None and any(family_of(each).settled(config) == family for each in bundled):
        return None
    default = plain(Family(family.name))
    # Fields at their default are left out, so that a field added by a later version changes no hash.
    written = {field: value for field, value in plain(family).items() if value != default[field]}
    return content_key({"name": family.name, "fields": written, "code": code})


def meanings(of: type[Family | Variant] = Family) -> dict[str, str]:
    """Meaning of each field of a description, or of a variant in it, by name, from the documentation of the class."""
    section = (inspect.getdoc(of) or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for names, meaning in re.findall(r"^ {4}(\w[\w, ]*): ((?:.*\n?)(?: {8}.*\n?)*)", section, flags=re.MULTILINE):
        for word, written in _AS_IN_YAML.items():
            meaning = re.sub(word, written, meaning)
        found |= dict.fromkeys(re.split(r",\s*", names), " ".join(meaning.split()))
    return found


def plain(family: Family) -> dict[str, Any]:
    """All fields of a description as plain data, in the form of its file."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(family)))
    return data


def flow(value: object) -> str:
    """A value of a description as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value).strip('"')


def json_schema() -> dict[str, Any]:
    """JSON schema, draft 2020-12, of the file of a description; editors use it to complete and check files."""
    schema = _FAMILY.json_schema()
    variant = schema["$defs"]["Variant"]
    whole, own = schema["properties"], variant["properties"]
    for properties, documented in ((whole, meanings()), (own, meanings(Variant))):
        for field, property_schema in properties.items():
            property_schema["description"] = documented[field]
    whole["follows"]["default"] = asdict(Family(""))["follows"]
    changed = {field: each for field, each in whole.items() if field not in _FIXED}
    own["change"] |= {"properties": changed, "additionalProperties": False}
    for each in (schema, variant):
        each["description"] = _first_line(Family if each is schema else Variant)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _Described(Mapping[str, Family]):
    """Families by model type, each read from the file of its entry. Using a type with two entries is an error."""

    def __init__(self, host: PluginHost) -> None:
        self._host, self._names = host, tuple(host.provided(FAMILY))

    def __getitem__(self, kind: str) -> Family:
        if kind not in self._names:
            raise KeyError(kind)
        return family_of(self._host.find(FAMILY, kind))

    def __contains__(self, kind: object) -> bool:
        return kind in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _validated(document: Document) -> tuple[Family | None, list[Problem]]:
    """The description in a document, or None, and the mistakes in it."""
    data = document.data
    family, errors = _parsed(data)
    problems = [problem_of(error, document, _known_fields) for error in errors]
    if family is None:
        return None, problems
    variants = []
    for index, variant in enumerate(family.variants):
        path = ("variants", index, "change")
        changed, errors = _parsed({"name": family.name, **variant.change}, path)
        for field in _FIXED:
            if field in variant.change:
                known = list(_known_fields(path))
                message = f"a variant cannot change {field!r}; known: {', '.join(known)}"
                problems.append(Problem(document.find((*path, field))[1], (*path, field), message))
        problems += [problem_of(error, document, _known_fields) for error in errors]
        if changed is not None:
            variants.append(Variant(variant.when, {field: getattr(changed, field) for field in variant.change}))
    return replace(family, variants=tuple(variants)), problems


def _parsed(data: Mapping[str, Any], path: KeyPath = ()) -> tuple[Family | None, list[ErrorDetails]]:
    """A description from plain data, or None, and the errors, located under ``path``."""
    try:
        # As JSON, in which a list is the only sequence; Python's strict mode takes tuples alone.
        return _FAMILY.validate_json(json.dumps(data)), []
    except ValidationError as error:
        return None, [each | {"loc": path + each["loc"]} for each in error.errors(include_url=False)]


def _known_fields(path: KeyPath) -> Iterable[str]:
    """Fields that the mapping at a path of a description may have."""
    if path[:1] != ("variants",):
        return [field.name for field in fields(Family)]
    if path[-1] == "change":
        return [field.name for field in fields(Family) if field.name not in _FIXED]
    return [field.name for field in fields(Variant)]


def _first_line(described: type[Any]) -> str:
    return (inspect.getdoc(described) or "").partition("\n")[0]
