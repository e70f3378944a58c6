"""Descriptions of families as files: what is refused, where they are found, and what two of one type mean."""

import json
import string
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from places import REPOSITORY

from prunecast.errors import ModelError, PluginError
from prunecast.models.families.family import Family, Variant
from prunecast.models.families.sizes import shape_of
from prunecast.plugins import families
from prunecast.plugins.families import chosen_family, description_hash, families_of, meanings, plain, read_family
from prunecast.plugins.hookspecs import Entry, hookimpl
from prunecast.plugins.host import FAMILY, PluginHost
from prunecast.plugins.local import Origin
from prunecast.testing.models import tiny_model

BUNDLED = sorted((REPOSITORY / "plugins/prunecast_plugins/families").glob("*.yaml"))
SCHEMA = REPOSITORY / "specs/family.schema.json"

FIELDS = ", ".join(field.name for field in fields(Family))
CHANGEABLE = FIELDS.removeprefix("name, ").removesuffix(", variants")


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "own.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


def host_with(*plugins: object) -> PluginHost:
    """A host with plugins only, each of a distribution of its own."""
    host = PluginHost()
    for number, plugin in enumerate(plugins):
        name = f"package-{number}:plugin"
        host._origins[name] = Origin(f"package-{number}", "1.0")
        host.manager.register(plugin, name)
    return host


class Describes:
    """A plugin with entries of families."""

    def __init__(self, *entries: Entry) -> None:
        self._entries = entries

    @hookimpl
    def prunecast_families(self) -> list[Entry]:
        return list(self._entries)


LLAMA = Entry("llama", "prunecast_plugins:families/llama.yaml", "Llama")


# ------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: llama\nquery: 3\n", "2:8: query: must be text, got 3: put it in quotes"),
        ("name: llama\nqueri: a\n", f"2:1: queri: unknown option 'queri' (did you mean 'query'?); known: {FIELDS}"),
        ("layers: h\n", "1:1: name: required, but missing"),
        ("hello: 1\n", "1:1: name: required, but missing (and 1 more)"),
        ("name: llama\nmlp: mlp\n", "2:6: mlp: must be a list, got 'mlp'"),
        ("name: llama\nlayers: null\n", "2:9: layers: must be text, got nothing"),
        ("name: llama\nbos: 1\n", "2:6: bos: must be true or false, got 1"),
        ("name: llama\nbos: yes\n", '2:6: bos: YAML reads yes as true: write true, or "yes" for text'),
        ("name: llama\nfused: 3\n", "2:8: fused: must be 'stack' or 'groups', got 3"),
        (
            "name: llama\nfollows: {num_heads: query_head}\n",
            "2:22: follows.num_heads: must be 'kv_groups', 'query_heads', 'heads_per_group' or 'query_width', got "
            "'query_head' (did you mean 'query_heads'?)",
        ),
        ("name: llama\nname: llama\n", "2:1: name: written twice, first on line 1: remove one"),
        ("", "1:1: the file is empty: write a mapping, such as name: llama, the model type of the family"),
        (
            "- llama\n",
            "1:1: the top level is a list: write a mapping, such as name: llama, the model type of the family",
        ),
        (
            "name: llama\nvariants:\n  - when: {bias: true}\n    change: {kei: a}\n",
            f"4:14: variants.0.change.kei: unknown option 'kei' (did you mean 'key'?); known: {CHANGEABLE}",
        ),
        (
            "name: llama\nvariants:\n  - when: {bias: true}\n    change: {mlp_norms: norm}\n",
            "4:25: variants.0.change.mlp_norms: must be a list, got 'norm'",
        ),
        (
            "name: llama\nvariants:\n  - when: {bias: true}\n    change: {name: other}\n",
            f"4:14: variants.0.change.name: a variant cannot change 'name'; known: {CHANGEABLE}",
        ),
        ("name: llama\nvariants:\n  - change: {bos: true}\n", "3:5: variants.0.when: required, but missing"),
        ("name: llama\nvariants: [llama]\n", "2:12: variants.0: must be a mapping, got 'llama'"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(text: str, message: str, written: Callable[..., Path]) -> None:
    file = written(text)
    with pytest.raises(PluginError) as caught:
        read_family(file)
    assert str(caught.value) == f"{file}:{message}"


def test_the_first_of_several_mistakes_is_told_with_the_number_of_the_others(written: Callable[..., Path]) -> None:
    file = written("name: llama\nquery: 3\nmlp: mlp\nfuse: stack\n")
    with pytest.raises(PluginError, match=r"own\.yaml:2:8: query: .* \(and 2 more\)$"):
        read_family(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"name: \xff\n", "1:7: byte 0xff is not UTF-8"), (None, "1:1: cannot be read: No such file or directory")],
)
def test_a_file_that_cannot_be_read(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PluginError) as caught:
        read_family(file)
    assert str(caught.value).startswith(f"{file}:{message}")


def test_a_file_that_describes_another_type_than_its_entry(written: Callable[..., Path]) -> None:
    with pytest.raises(PluginError) as caught:
        read_family(file := written("layers: h\nname: lama\n"), "llama")
    wanted = "2:7: name: 'lama' is not 'llama', the name of the family's entry: write the model type in both"
    assert str(caught.value) == f"{file}:{wanted}"
    assert read_family(file).name == "lama"


def test_a_wrong_module_name_is_told_with_its_field(written: Callable[..., Path]) -> None:
    family = read_family(written("name: llama\nquery: self_attn.query\n"))
    with pytest.raises(ModelError) as caught:
        shape_of(tiny_model("llama").config, family)
    assert str(caught.value).startswith(
        "family 'llama' is described with query='self_attn.query', which does not exist"
    )


# --------------------------------------------------------------------------------------------- files and values


names = st.from_regex(r"[a-z_]{1,6}(\.[a-z_]{1,6}){0,2}", fullmatch=True)
lists = st.lists(names, max_size=3, unique=True).map(tuple)
values: dict[str, st.SearchStrategy[Any]] = {
    "layers": names,
    "mlp": lists,
    "query": names,
    "gate": st.none() | names,
    "fused": st.sampled_from(["stack", "groups"]),
    "shared_norms": lists,
    "adds_residual": st.lists(st.sampled_from(["attention", "mlp"]), unique=True).map(tuple),
    "groups_attribute": st.none() | names,
    "follows": st.dictionaries(names, st.sampled_from(["kv_groups", "query_heads"]), max_size=2),
    "bos": st.booleans(),
}
changes = st.fixed_dictionaries({}, optional=values)
conditions = st.dictionaries(
    st.text(string.ascii_lowercase, min_size=1, max_size=5),
    st.booleans() | st.integers() | names | st.none() | st.lists(st.integers() | st.none(), max_size=2),
    max_size=2,
)
variants = st.lists(st.builds(Variant, when=conditions, change=changes), max_size=2).map(tuple)


@given(names, changes, variants)
def test_a_description_is_read_back_from_yaml_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, name: str, changed: dict[str, Any], differing: tuple[Variant, ...]
) -> None:
    family = Family(name, **changed, variants=differing)
    file = tmp_path_factory.getbasetemp() / "read_back.yaml"
    file.write_text(yaml.safe_dump(plain(family)), encoding="utf-8")
    assert read_family(file) == family


def test_every_field_of_a_file_has_a_meaning() -> None:
    assert list(meanings()) == [field.name for field in fields(Family)]
    assert list(meanings(Variant)) == [field.name for field in fields(Variant)]
    assert not [meaning for meaning in meanings().values() if "None" in meaning or "`" in meaning]


def test_the_shipped_schema_is_that_of_the_fields() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == families.json_schema(), "stale: run `make schema`"


@pytest.mark.parametrize("file", BUNDLED, ids=lambda file: file.stem)
def test_a_bundled_file_names_the_schema_and_follows_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    place = text.partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
    assert (file.parent / place).resolve() == SCHEMA
    validator = jsonschema.Draft202012Validator(families.json_schema())
    assert list(validator.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize(
    "wrong",
    [{"queri": "a"}, {"mlp": "mlp"}, {"follows": {"a": "b"}}, {"variants": [{"when": {}, "change": {"name": "a"}}]}],
)
def test_the_schema_refuses_what_is_refused_here(wrong: dict[str, Any], written: Callable[..., Path]) -> None:
    validator = jsonschema.Draft202012Validator(families.json_schema())
    assert validator.is_valid({"name": "llama"})
    assert not validator.is_valid({"name": "llama", **wrong})
    with pytest.raises(PluginError):
        read_family(written(yaml.safe_dump({"name": "llama", **wrong})))


# ------------------------------------------------------------------------------------------------------ finding


def test_the_bundled_families_are_those_with_a_file() -> None:
    bundled = PluginHost.discover().provided(FAMILY)
    own = [name for name, found in bundled.items() if found[0].distribution == families.BUNDLED]
    assert own == [file.stem for file in BUNDLED]


def test_files_are_read_only_when_their_family_is_used() -> None:
    described = families_of(host_with(Describes(LLAMA, Entry("ghost", "no_such_package:ghost.yaml", "None"))))
    assert list(described) == ["ghost", "llama"]
    assert described["llama"].name == "llama"
    with pytest.raises(PluginError, match=r"family 'ghost' of package-0 1\.0 failed in its import"):
        described["ghost"]


def test_a_target_without_a_file_says_how_to_write_one() -> None:
    described = families_of(host_with(Describes(Entry("llama", "prunecast_plugins", "Llama"))))
    with pytest.raises(PluginError, match=r"names no file: write f\"\{__name__\}:NAME\.yaml\""):
        described["llama"]


def test_two_descriptions_of_one_type_are_both_named_when_it_is_used() -> None:
    own = Entry("own", "prunecast_plugins:families/llama.yaml", "Own")
    described = families_of(host_with(Describes(LLAMA), Describes(LLAMA, own)))
    assert sorted(described) == ["llama", "own"]
    with pytest.raises(PluginError) as caught:
        described.of(tiny_model("llama").config)
    assert str(caught.value).startswith("family 'llama' is provided by both package-0 1.0 and package-1 1.0: ")


LOCAL = """
from prunecast.plugins import Entry, hookimpl


@hookimpl
def prunecast_families():
    return [Entry("own", f"{__name__}:files/own.yaml", "An own one")]
"""


def test_a_local_plugin_has_its_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/own.yaml").write_text("name: own\nlayers: blocks\n")
    (tmp_path / "own.py").write_text(LOCAL)
    host = PluginHost()
    host.add_local(tmp_path / "own.py")
    assert families_of(host)["own"].layers == "blocks"


# -------------------------------------------------------------------------------------------- chosen, and hashes


def test_a_chosen_description_is_used_whatever_the_type(written: Callable[..., Path]) -> None:
    config = tiny_model("llama").config
    host = PluginHost.discover()
    for named in (str(written("name: other\nbos: true\n")), "gemma"):
        family = families_of(host, chosen_family(host, named, Path)).of(config)
        assert family.bos
        assert family.name in ("other", "gemma")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("lama", "no family is called 'lama' (did you mean 'llama'?); available: apertus, "),
        ("folder/own", "folder/own:1:1: cannot be read: No such file or directory"),
        ("own.yml", "own.yml:1:1: cannot be read: No such file or directory"),
    ],
)
def test_a_chosen_description_that_is_not_there(named: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        chosen_family(PluginHost.discover(), named, Path)
    assert str(caught.value).startswith(message)


def test_only_a_description_that_is_not_bundled_has_a_hash(written: Callable[..., Path]) -> None:
    config, host = tiny_model("llama").config, PluginHost.discover()
    bundled = families_of(host).of(config)
    assert description_hash(host, bundled, config) is None
    same = read_family(written("name: llama\n"))
    assert description_hash(host, same, config) is None
    hashes = {
        text: description_hash(host, read_family(written(text)).settled(config), config)
        for text in ("name: llama\nbos: true\n", "name: mistral\n", "name: llama\nfollows: {}\n")
    }
    assert len(set(hashes.values())) == 3
    assert all(hashes.values())
    # A comment, and a field at its default, change nothing.
    again = read_family(written("# Own.\nname: llama\nbos: true\nattention: self_attn\n"))
    assert description_hash(host, again, config) == hashes["name: llama\nbos: true\n"]
