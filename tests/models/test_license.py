"""The licence that a model's own files state."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGUFWriter
from hub_stand_in import running_hub

from prunecast.models.license import License, license_of
from prunecast.models.source import ModelSource, resolve_source

COMMIT = "a" * 40


def in_folder(folder: Path, card: str) -> License | None:
    (folder / "README.md").write_text(card)
    return license_of(ModelSource("folder", "tiny", folder))


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("license: apache-2.0", License("apache-2.0")),
        ("license: [mit]", License("mit")),
        (
            "license: other\nlicense_name: acme-terms\nlicense_link: https://acme.org/terms",
            License("other", "acme-terms", "https://acme.org/terms"),
        ),
        ("license: other\nlicense_link: LICENSE.md", License("other")),  # the file is not in the export
        ("license: [mit, apache-2.0]", None),
        ("license: 3", None),
        ("language: en", None),
        ("license: [", None),
        ("- a list", None),
    ],
)
def test_the_front_matter_of_a_folders_card_states_it(tmp_path: Path, front: str, expected: License | None) -> None:
    assert in_folder(tmp_path, f"---\n{front}\n---\n\n# A model\n") == expected


def test_a_folder_without_a_card_or_front_matter_states_none(tmp_path: Path) -> None:
    assert license_of(ModelSource("folder", "tiny", tmp_path)) is None
    assert in_folder(tmp_path, "# A model\n\nlicense: mit\n") is None


def test_a_link_in_the_card_of_a_hub_model_leads_to_its_file_there(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: gemma\nlicense_link: LICENSE\n---\n")
    source = ModelSource("hub", "acme/tiny", tmp_path, COMMIT)
    assert license_of(source) == License("other", "gemma", f"https://huggingface.co/acme/tiny/blob/{COMMIT}/LICENSE")


def test_a_hub_model_whose_card_is_not_here_states_none_offline(tmp_path: Path) -> None:
    assert license_of(ModelSource("hub", "acme/tiny", tmp_path, COMMIT)) is None


@pytest.mark.parametrize("offline", ["0", "1"])
def test_the_card_of_a_hub_model_is_asked_for_online_only(tmp_path: Path, offline: str) -> None:
    code = f"""if True:
        from pathlib import Path
        from prunecast.models.license import license_of
        from prunecast.models.source import ModelSource
        print(license_of(ModelSource("hub", "acme/tiny", Path({str(tmp_path)!r}), "main")))
    """
    with running_hub() as hub:
        commit, _ = hub.holding("acme/tiny", {"README.md": b"---\nlicense: mit\n---\n"}).commits[0]
        environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": offline, "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-c", code.replace('"main"', f'"{commit}"')]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ("None\n" if offline == "1" else "License(identifier='mit', name=None, link=None)\n")
    assert (hub.requests == []) == (offline == "1")


def write_gguf(path: Path, last: bool) -> ModelSource:
    """A GGUF file without tensors that states its licence among other things, before or after a long list."""
    writer = GGUFWriter(path, "llama")
    writer.add_uint32("general.version_number", 3)
    writer.add_languages(["en", "fr"])
    if last:
        writer.add_token_list([b"word"] * 1000)
    writer.add_license("other")
    writer.add_license_name("acme-terms")
    writer.add_license_link("https://acme.org/terms")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return ModelSource("gguf", path.name, path)


def test_the_beginning_of_a_gguf_header_states_it(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "first.gguf", last=False)
    assert license_of(source) == License("other", "acme-terms", "https://acme.org/terms")
    assert license_of(write_gguf(tmp_path / "last.gguf", last=True)) is None


def test_a_damaged_gguf_file_states_what_can_be_read(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", last=False).path.read_bytes()
    cut = tmp_path / "cut.gguf"
    found = set()
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        stated = license_of(ModelSource("gguf", "cut", cut))
        found.add(stated and stated.identifier)
    assert found == {None, "other"}


def test_the_models_with_an_alias_state_theirs() -> None:
    assert license_of(resolve_source("smollm2-135m")) == License("apache-2.0")
