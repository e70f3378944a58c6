"""The JSON schema that ships beside the specs, and the specs themselves."""

import json
from typing import Any

import pytest
import yaml
from places import REPOSITORY

from prunecast.plugins.host import PluginHost
from prunecast.spec.load import load_spec, packaged_specs
from prunecast.spec.schema import json_schema

SPECS = REPOSITORY / "specs"
SCHEMA_FILE = SPECS / "prunecast.schema.json"
NAMES = sorted(file.stem for file in SPECS.glob("*.yaml"))


@pytest.fixture(scope="module")
def host() -> PluginHost:
    """A host with the bundled plugins only."""
    host = PluginHost.discover()
    for name, _ in host.manager.list_name_plugin():
        if name != "prunecast:bundled":
            host.manager.unregister(name=name)
    return host


def shipped_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def test_the_shipped_schema_equals_that_of_the_bundled_plugins(host: PluginHost) -> None:
    assert shipped_schema() == json_schema(host), f"{SCHEMA_FILE.name} is stale: run `make schema`"


def test_all_specs_are_found_by_name() -> None:
    assert list(packaged_specs()) == NAMES
    assert "quickstart" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_spec_and_its_plugin_options_are_valid(name: str, host: PluginHost) -> None:
    assert load_spec(SPECS / f"{name}.yaml", host).name == name


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_of_a_spec_names_the_schema(name: str) -> None:
    first = (SPECS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE.name}"


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_a_shipped_spec(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(shipped_schema())
    validator.check_schema(shipped_schema())
    assert list(validator.iter_errors(yaml.safe_load((SPECS / f"{name}.yaml").read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("searcher", {"use": "tpe", "trails": 75}),
        ("searcher", {"use": "simulated-annealing"}),
        ("predictor", {"trees": 10}),
        ("budget", {"parameters": -0.5}),
        ("budget", {"parameters": 70}),
        ("budget", {"macs": 0.5, "context": 0}),
        ("roundz", 4),
    ],
)
def test_the_schema_refuses_specs_that_prunecast_refuses(key: str, wrong: object) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    spec = yaml.safe_load((SPECS / "quickstart.yaml").read_text(encoding="utf-8"))
    assert not jsonschema.Draft202012Validator(shipped_schema()).is_valid(spec | {key: wrong})
