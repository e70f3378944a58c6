"""``prunecast doctor``: a line for each thing that was looked at, and 1 if anything is broken."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from model_folders import save_model
from places import REPOSITORY
from saved_models import edit_config, write_gguf
from workplace import Workplace

from prunecast.doctor import machine
from prunecast.registry import Registry


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder, and no folder of data sets."""
    monkeypatch.delenv("PRUNECAST_DATA", raising=False)
    return Workplace(tmp_path)


def files_in(workplace: Workplace) -> list[Path]:
    return sorted(file for file in workplace.folder.rglob("*") if not file.name.endswith(("-shm", "-wal")))


def examined(workplace: Workplace, *arguments: str, code: int = 0) -> dict[str, tuple[str, str]]:
    """State and text of every finding by subject; no file may have appeared but those that SQLite reads by."""
    before = files_in(workplace)
    outcome = workplace.prunecast("doctor", *arguments, "--json")
    assert (outcome.code, outcome.stderr) == (code, "")
    assert files_in(workplace) == before
    return {found["subject"]: (found["state"], found["text"]) for found in outcome.json}


def test_a_sound_machine_has_a_line_of_each_kind_and_nothing_broken(here: Workplace) -> None:
    outcome = here.prunecast("doctor")
    assert outcome.code == 0
    lines = outcome.stdout.splitlines()
    assert all(re.fullmatch(r"(ok      |warning ) (\S.{15}) \S.*", line) for line in lines)
    subjects = [line[9:25].rstrip() for line in lines]
    first = ["prunecast", "python", "torch", "transformers", "packages", "plugins", "device", "processor"]
    assert subjects[: len(first)] == first
    assert {"memory", "cache", "temporary files", "hub cache", "data", "hub", "registry", "extra report"} <= set(
        subjects
    )
    assert list(here.folder.iterdir()) == []


def test_json_has_the_same_findings(here: Workplace) -> None:
    lines = here.prunecast("doctor").stdout.splitlines()
    found = here.prunecast("doctor", "--json").json
    stable = [f for f in found if "free" not in f["text"]]
    shown = [f"{f['state']:<8} {f['subject']:<16} {f['text']}" for f in stable]
    assert len(found) == len(lines)
    assert set(shown) <= set(lines)


def test_every_extra_has_a_line_with_its_purpose(here: Workplace) -> None:
    import tomllib

    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = examined(here)
    assert {subject.removeprefix("extra ") for subject in found if subject.startswith("extra ")} == set(extras)
    assert not [text for subject, (_, text) in found.items() if "for other features" in text]


# ---------------------------------------------------------------------------------------------------------- registry


def test_a_registry_is_sound_broken_or_not_there_yet(here: Workplace) -> None:
    assert examined(here)["registry"] == ("ok", "registry.db: not there yet; a run makes it")
    with Registry.open(here.registry) as registry:
        registry.start_run("a" * 32, "one", "{}", "")
    assert examined(here)["registry"] == ("ok", "registry.db: 1 run, 0 evaluations, no problem found")
    here.registry.write_bytes(b"not a database" * 100)
    state, text = examined(here, code=1)["registry"]
    assert state == "broken"
    assert "is no SQLite file, or a damaged one" in text


def test_a_registry_with_a_false_number_is_broken(here: Workplace, finished: tuple[Workplace, object]) -> None:
    import sqlite3
    from contextlib import closing

    shutil.copy(finished[0].registry, here.registry)
    assert examined(here)["registry"][0] == "ok"
    with closing(sqlite3.connect(here.registry)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS evaluations_unchanged")
        connection.execute("UPDATE evaluations SET parameters = parameters + 1 WHERE id = 1")
        connection.commit()
    state, text = examined(here, code=1)["registry"]
    assert state == "broken"
    assert "prunecast registry verify --registry registry.db" in text


# ----------------------------------------------------------------------------------------------------------- folders


def test_a_missing_data_folder_is_a_warning(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examined(here)["data"][0] == "ok"
    monkeypatch.setenv("PRUNECAST_DATA", str(here.folder / "never"))
    assert examined(here)["data"] == (
        "warning",
        f"{here.folder / 'never'} (PRUNECAST_DATA) is no folder: name the folder that holds the data sets, or unset it",
    )


def test_the_data_sets_in_the_data_folder_are_named(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNECAST_DATA", str(here.folder))
    assert examined(here)["data"][0] == "warning"
    (here.folder / "ptb").mkdir()
    (here.folder / "ptb" / "ptb.test.txt").write_text("text")
    assert examined(here)["data"] == ("ok", f"{here.folder} with ptb")


def test_a_cache_that_cannot_be_written_is_a_warning(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    (here.folder / "file").write_text("in the way")
    monkeypatch.setenv("PRUNECAST_CACHE", str(here.folder / "file" / "cache"))
    state, text = examined(here)["cache"]
    assert state == "warning"
    assert "cannot be written" in text


# --------------------------------------------------------------------------------------------------------------- Hub


def test_offline_mode_asks_nothing(here: Workplace) -> None:
    assert examined(here)["hub"] == (
        "ok",
        "offline mode (HF_HUB_OFFLINE, or --offline): models and data come from this machine",
    )


def test_a_hub_that_never_answers_is_a_warning_after_seconds(here: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    # A name server that does not answer blocks without a time limit.
    monkeypatch.setattr("prunecast.hub.unreachable", lambda: time.sleep(60))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(machine, "HUB_SECONDS", 0.2)
    start = time.monotonic()
    state, text = examined(here)["hub"]
    assert time.monotonic() - start < 30
    assert (state, "does not answer" in text) == ("warning", True)


# -------------------------------------------------------------------------------------------------------- with MODEL


def test_a_model_has_its_family_tokenizer_sizes_and_memory(here: Workplace) -> None:
    save_model(here.folder, "biased")
    found = examined(here, "biased")
    assert found["model"] == ("ok", "biased: folder at biased")
    assert found["family"][0] == "ok"
    assert found["family"][1].startswith("qwen2")
    assert found["sizes"][1].endswith("2 layers, the first with 4 x 2 query heads and an MLP of 24; context 512")
    assert found["tokenizer"][1].endswith("tokens, with a beginning-of-sequence token")
    assert found["memory needed"][0] == "ok"
    assert found["weights"][0] == "ok"


def test_a_gguf_file_is_not_converted(here: Workplace, tmp_path_factory: pytest.TempPathFactory) -> None:
    write_gguf(here.folder / "model.gguf")
    cache = tmp_path_factory.getbasetemp() / "cache"
    before = sorted(cache.rglob("*"))
    found = examined(here, "model.gguf")
    assert found["family"][1].startswith("llama")
    # Head and embeddings are two tensors of 64 x 32 in this file.
    assert found["sizes"][1].startswith(f"{2 * 64 * 32 + 32 + 2 * (64 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48):,} ")
    assert sorted(cache.rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "subject", "problem"),
    [
        ("type", "family", "not a causal language model"),
        ("tokenizer", "tokenizer", "no complete tokenizer"),
        ("weights", "weights", "no weights"),
        ("folder", "model", "no such folder"),
    ],
)
def test_a_model_that_cannot_be_pruned_is_broken_at_its_first_fault(
    here: Workplace, damage: str, subject: str, problem: str
) -> None:
    folder = save_model(here.folder, "llama")
    if damage == "type":
        edit_config(folder, model_type="t5")
    elif damage == "folder":
        shutil.rmtree(folder)
    else:
        for file in folder.glob("tokenizer*" if damage == "tokenizer" else "*.safetensors"):
            file.unlink()
    # A path, so that a missing folder is not taken for a model of the Hub.
    found = examined(here, "./llama", code=1)
    assert [name for name, (state, _) in found.items() if state == "broken"] == [subject]
    assert problem in found[subject][1]


def test_the_output_is_valid_json_alone(here: Workplace) -> None:
    assert {"state", "subject", "text"} == set(json.loads(here.prunecast("doctor", "--json").stdout)[0])
