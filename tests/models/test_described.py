"""A config of which no model can be made is told before anything else is asked of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunecast.errors import ModelError
from prunecast.models.described import config_of, described
from prunecast.models.source import resolve_source
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_hidden_layers", 0, "num_hidden_layers is 0 in config.json"),
        ("num_hidden_layers", -1, "num_hidden_layers is -1 in config.json"),
        ("num_hidden_layers", 100_000, "config.json says 100,000 layers, and its weights have"),
        ("num_attention_heads", 0, "num_attention_heads is 0 in config.json"),
        ("hidden_act", "nosuch", "no model with hidden_act 'nosuch', but does with 'silu'"),
        ("rope_parameters", {"rope_type": "zzz"}, "no model with rope_parameters"),
        ("intermediate_size", 24.0, "'intermediate_size' expected int, got float"),
        ("model_type", "zebra9", "has no model type 'zebra9', and its config is of version"),
    ],
)
def test_a_field_that_no_model_can_have_is_named(field: str, value: Any, message: str, saved: Path) -> None:
    file, families = saved / "config.json", families_of(PluginHost.discover())
    content = json.loads(file.read_text()) | {field: value}
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message) as refused:
        described(resolve_source(str(saved)), families)
    assert str(refused.value).startswith(f"model {saved}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("field", "value"), [("num_attention_heads", 0), ("hidden_act", "nosuch")])
def test_a_config_alone_is_read_as_strictly(field: str, value: Any, saved: Path) -> None:
    content = json.loads((saved / "config.json").read_text())
    families = families_of(PluginHost.discover())
    assert config_of(content, families, "x").num_attention_heads == content["num_attention_heads"]
    with pytest.raises(ModelError, match=f"^model x: .*{field}"):
        config_of(content | {field: value}, families, "x")
