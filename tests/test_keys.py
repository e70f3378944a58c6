import subprocess
import sys

import pytest
from registry_samples import setting

from prunecast.keys import canonical_json, content_key
from prunecast.registry.records import PluginRecord


@pytest.mark.parametrize(
    ("value", "text", "key"),
    [
        (None, "null", "941dffce4e4308ceb33e87326003257d"),
        ({"b": [1, 2.5, True], "a": "Größe"}, '{"a":"Größe","b":[1,2.5,true]}', "84251be8a1fa9d06f372946ce69d3e87"),
    ],
)
def test_canonical_json_and_content_keys_are_stable(value: object, text: str, key: str) -> None:
    assert canonical_json(value) == text
    assert content_key(value) == key


def test_the_key_does_not_depend_on_the_order_of_options() -> None:
    assert content_key({"a": 1, "b": {"c": 2, "d": 3}}) == content_key({"b": {"d": 3, "c": 2}, "a": 1})


def test_the_key_does_not_depend_on_the_hash_seed() -> None:
    code = "from prunecast.keys import content_key; print(content_key({'x': 1, 'y': 'z'}))"
    outputs = {
        subprocess.check_output([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, text=True) for seed in "12"
    }
    assert outputs == {content_key({"y": "z", "x": 1}) + "\n"}


@pytest.mark.parametrize("value", [float("nan"), {"a": float("inf")}, {1, 2}, object()])
def test_a_value_that_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        content_key(value)


def test_a_plugins_key_depends_on_all_its_fields_but_the_distribution() -> None:
    base = setting().pruner
    same = PluginRecord(base.name, base.version, dict(base.options), base.data_hash, "a fork")
    others = [
        PluginRecord("magnitude", base.version, base.options, base.data_hash, base.distribution),
        PluginRecord(base.name, 2, base.options, base.data_hash, base.distribution),
        PluginRecord(base.name, base.version, {"order": 2}, base.data_hash, base.distribution),
        PluginRecord(base.name, base.version, base.options, None, base.distribution),
    ]
    assert same.key == base.key
    assert len({base.key, *(other.key for other in others)}) == 5
