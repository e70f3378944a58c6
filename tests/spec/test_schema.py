"""The JSON schema: every plugin's options, distinguished by ``use``."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from toy_plugins import GHOST, toy_host

from prunecast.errors import PluginError
from prunecast.spec.model import Spec
from prunecast.spec.schema import json_schema

SCHEMA = json_schema(toy_host())


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    return SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]


def variants(key: str) -> dict[str, dict[str, Any]]:
    alternatives = resolved(SCHEMA["properties"][key])["anyOf"]
    return {variant["properties"]["use"]["const"]: variant for variant in alternatives if variant["type"] == "object"}


def references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from [schema["$ref"]] if "$ref" in schema else []
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from references(item)


def test_the_top_level_has_every_key_of_a_spec_and_no_others() -> None:
    assert list(SCHEMA["properties"]) == list(Spec.model_fields)
    assert SCHEMA["required"] == ["model", "space", "pruner", "evaluators", "predictor", "searcher"]
    assert SCHEMA["additionalProperties"] is False
    undescribed = [
        key for key, schema in SCHEMA["properties"].items() if "description" not in resolved(schema) | schema
    ]
    assert undescribed == []


def test_every_plugin_is_a_variant_with_its_options_and_no_others() -> None:
    assert list(variants("predictor")) == ["deep", "line", "shallow"]
    line = variants("predictor")["line"]
    assert line["properties"]["use"] == {"const": "line", "type": "string", "description": "A straight line"}
    assert line["properties"]["ridge"]["description"] == "Weight decay."
    assert line["properties"]["ridge"]["exclusiveMinimum"] == 0
    assert line["additionalProperties"] is False
    assert line["required"] == ["use"]
    assert variants("space")["ladder"]["required"] == ["use", "steps"]


def test_only_plugins_without_required_options_can_be_a_plain_name() -> None:
    def bare(key: str) -> list[str]:
        alternatives = resolved(SCHEMA["properties"][key])["anyOf"]
        return [name for variant in alternatives if variant["type"] == "string" for name in variant["enum"]]

    assert bare("predictor") == ["deep", "line", "shallow"]
    assert bare("space") == []


def test_evaluators_and_verification_take_the_same_plugins() -> None:
    verify = resolved(SCHEMA["properties"]["verify"])
    assert SCHEMA["properties"]["evaluators"]["items"] == verify["properties"]["evaluators"]["items"]


def test_nested_options_of_equal_name_stay_separate() -> None:
    defaults = {
        name: resolved(variants("predictor")[name]["properties"]["growth"])["properties"]["depth"]["default"]
        for name in ("shallow", "deep")
    }
    assert defaults == {"shallow": 2, "deep": 9}


def test_references_and_definitions_match() -> None:
    used = {reference.removeprefix("#/$defs/") for reference in references(SCHEMA)}
    assert used == set(SCHEMA["$defs"])


def test_the_schema_is_json_and_deterministic() -> None:
    assert json.dumps(SCHEMA) == json.dumps(json_schema(toy_host()))


def test_a_plugin_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(PluginError, match="predictor 'ghost' of toys"):
        json_schema(toy_host(GHOST))
