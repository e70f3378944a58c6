"""Labels: models, pruners and evaluators as text that tells apart those of one registry.

A label has the options that differ from their defaults. Lists among them, such as calibration texts, and hashes of data
and code are added where two plugins of one model would have the same label otherwise.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunecast.registry.store import Registry

_PLUGINS = """
    SELECT DISTINCT s.model_id, p.id, p.name, p.version, p.options_json, p.data_hash, p.code_hash
    FROM settings s JOIN {table} p ON p.id = s.{column} ORDER BY s.model_id, p.id"""

_MODELS = "SELECT id, source, key FROM models ORDER BY id"

_DIGITS = 8
"""First digits of a hash that a label shows."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Labels:
    """Labels of everything in a registry.

    Attributes:
        models: by the id of the model: its source, followed by the first digits of its fingerprint if there are several
            of this source.
        pruners, evaluators: by the ids of model and plugin.
    """

    models: Mapping[int, str]
    pruners: Mapping[tuple[int, int], str]
    evaluators: Mapping[tuple[int, int], str]

    @classmethod
    def of(cls, registry: Registry) -> "Labels":
        """Labels of everything that the registry has now."""
        models = list(registry.rows(_MODELS))
        texts = _told_apart([row["source"] for row in models], [lambda n: models[n]["key"][:_DIGITS]])
        plugins = (_plugins(registry, table, column) for table, column in _TABLES)
        return cls({row["id"]: text for row, text in zip(models, texts, strict=True)}, *plugins)


_TABLES = (("pruners", "pruner_id"), ("evaluators", "evaluator_id"))


def described(plugin: str, options_json: str) -> str:
    """A plugin with its options but for lists, e.g. ``perplexity dataset=wikitext2 tokens=4096``.

    ``options_json`` has the options that differ from their defaults.
    """
    return " ".join([plugin, *(f"{path}={value}" for path, value in _leaves(_options(options_json)))])


def _options(options_json: str) -> Mapping[str, Any]:
    """Options as a mapping; empty for anything else, which a registry of others may hold."""
    options = json.loads(options_json)
    return options if isinstance(options, dict) else {}


def _leaves(options: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        elif not isinstance(value, list):
            yield f"{path}{name}", value


def _lists(options: Mapping[str, Any], path: str = "") -> str:
    """The lists among options, e.g. ``calibration=books/32/512,c4/32/512``."""
    found = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            found.append(_lists(value, f"{path}{name}."))
        elif isinstance(value, list):
            items = ("/".join(map(str, item.values())) if isinstance(item, Mapping) else str(item) for item in value)
            found.append(f"{path}{name}={','.join(items)}")
    return " ".join(filter(None, found))


def _plugins(registry: Registry, table: str, column: str) -> dict[tuple[int, int], str]:
    by_model: dict[int, list[Row]] = {}
    for row in registry.rows(_PLUGINS.format(table=table, column=column)):
        by_model.setdefault(row["model_id"], []).append(row)
    return {
        (model, row["id"]): text
        for model, rows in by_model.items()
        for row, text in zip(rows, _labels(rows), strict=True)
    }


def _labels(rows: Sequence[Row]) -> list[str]:
    """Labels of the pruners or evaluators of one model."""

    def digits(column: str, name: str) -> Callable[[int], str]:
        return lambda n: f"{name}={rows[n][column][:_DIGITS]}" if rows[n][column] else ""

    details = [
        lambda n: _lists(_options(rows[n]["options_json"])),
        lambda n: f"version={rows[n]['version']}",
        digits("data_hash", "text"),
        digits("code_hash", "code"),
    ]
    return _told_apart([described(row["name"], row["options_json"]) for row in rows], details)


def _told_apart(texts: Sequence[str], details: Sequence[Callable[[int], str]]) -> list[str]:
    """Texts of which no two are the same, as far as details tell them apart.

    A detail is added to all texts that are the same if it differs among them.

    Args:
        texts: N texts.
        details: functions from the place of a text to a detail of it, the most telling first.
    """
    found = list(texts)
    for detail in details:
        counts = Counter(found)
        same = {text: [n for n, other in enumerate(found) if other == text] for text in counts if counts[text] > 1}
        for text, places in same.items():
            added = {n: detail(n) for n in places}
            if len(set(added.values())) > 1:
                for n in places:
                    found[n] = f"{text} {added[n]}".rstrip()
    return found
