"""Exports pushed by the real client of the Hub to a stand-in of it on the loopback.

The client reads ``HF_ENDPOINT`` when it is imported, so every push is made in a process of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hub_stand_in import READER, WRITER, Hub, running_hub
from workplace import Outcome, Workplace

NAME = "someone/tiny"
PUSH = """
import json, sys
from pathlib import Path
from prunecast.errors import PrunecastError
from prunecast.export.push import push_folder
folder, name, options = sys.argv[1:]
try:
    print(json.dumps(push_folder(Path(folder), name, **json.loads(options)).to_json()))
except PrunecastError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def folder(finished: tuple[Workplace, Outcome], tmp_path: Path) -> Path:
    """A copy of the export of a finished run."""
    return Path(shutil.copytree(finished[0].folder / "out" / "tiny", tmp_path / "tiny"))


def process(hub: Hub, command: Sequence[str], folder: Path, **environment: str) -> Outcome:
    ours = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": WRITER,
        "HF_HOME": str(folder.parent / "home"),
        "PRUNECAST_REGISTRY": "registry.db",
        **environment,
    }
    done = subprocess.run([sys.executable, *command], cwd=folder, env=ours, capture_output=True, text=True, timeout=240)
    return Outcome(done.returncode, done.stdout, done.stderr)


def push(hub: Hub, folder: Path, name: str = NAME, token: str = WRITER, offline: str = "0", **options: bool) -> Outcome:
    command = ("-c", PUSH, str(folder), name, json.dumps(options))
    return process(hub, command, folder.parent, HF_TOKEN=token, HF_HUB_OFFLINE=offline)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refusal(outcome: Outcome) -> str:
    """The one line of a refused push."""
    assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1), outcome
    return outcome.stderr


def rewrite_manifest(folder: Path, **changes: object) -> None:
    file = folder / "prunecast_export.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.slow
def test_an_export_is_published_by_the_command_line_with_equal_bytes_in_one_commit(
    hub: Hub, continued: Workplace
) -> None:
    command = ("-m", "prunecast", "export", "tiny", "again", "--push", NAME)
    tried = process(hub, [*command, "--dry-run"], continued.folder)
    assert (tried.code, hub.repositories, hub.writes) == (0, {}, []), tried.stderr
    for file in (continued.folder / "again").iterdir():
        assert f"{file.name} " in tried.stdout
        assert f"{file.stat().st_size:,}  upload" in tried.stdout
    assert f"{hub.address}/{NAME}, a new public repository" in tried.stdout

    done = process(hub, command, continued.folder)
    assert done.code == 0, done.stderr
    here = hub.repositories[NAME]
    assert {**contents(continued.folder / "again"), ".gitattributes": here.files[".gitattributes"]} == here.files
    assert (here.lfs, len(here.commits), here.private) == ({"model.safetensors"}, 2, False)
    assert f"in commit {here.commits[-1][0]} (public)" in done.stdout

    hub.requests.clear()
    repeated = process(hub, [*command, "--json"], continued.folder)
    assert (len(here.commits), hub.writes) == (2, [])
    assert repeated.json["push"]["unchanged"]
    assert repeated.json["push"]["commit"] == here.commits[-1][0]


def test_the_command_line_says_in_one_line_what_is_wrong_before_it_exports(hub: Hub, continued: Workplace) -> None:
    command = ("-m", "prunecast", "export", "tiny", "again", "--push")
    for name, environment, said in (
        ("tiny", {}, "write owner/tiny"),
        ("some one/tiny", {}, "write owner/name"),
        (NAME, {"HF_HUB_OFFLINE": "1"}, "unset HF_HUB_OFFLINE"),
        (NAME, {"HF_TOKEN": ""}, "run `hf auth login`, or set HF_TOKEN"),
        (NAME, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 does not answer"),
    ):
        assert said in refusal(process(hub, [*command, name], continued.folder, **environment))
    unused = process(hub, ["-m", "prunecast", "export", "tiny", "again", "--dry-run"], continued.folder)
    assert (unused.code, "--dry-run needs --push" in unused.stderr) == (2, True)
    assert not (continued.folder / "again").exists()
    assert hub.writes == []


@pytest.mark.parametrize(
    "request_", [r"PUT /storage/\w+", "POST /api/models/someone/tiny/commit/main", "POST /api/validate-yaml"]
)
def test_a_push_that_breaks_leaves_nothing_behind(hub: Hub, folder: Path, request_: str) -> None:
    hub.faults[request_] = 400
    assert "nothing of it is there: push again" in refusal(push(hub, folder))
    assert hub.repositories == {}

    older = hub.holding(NAME, {"notes.txt": b"mine"})
    hub.faults.clear()
    assert push(hub, folder, overwrite=True).code == 0
    card = folder / "README.md"
    card.write_text(card.read_text() + "more\n")
    (folder / "model.safetensors").write_bytes(b"other weights")
    change_listed(folder, "model.safetensors")
    before = dict(older.files)
    hub.faults[request_] = 400
    assert "nothing of it is there" in refusal(push(hub, folder))
    assert older.files == before


def change_listed(folder: Path, name: str) -> None:
    """List a changed file as it is now."""
    import hashlib

    files = json.loads((folder / "prunecast_export.json").read_text())["files"]
    rewrite_manifest(folder, files={**files, name: hashlib.sha256((folder / name).read_bytes()).hexdigest()})


def test_a_new_repository_that_cannot_be_deleted_is_said(hub: Hub, folder: Path) -> None:
    hub.faults = {r"PUT /storage/\w+": 403, "DELETE /api/repos/delete": 500}
    said = refusal(push(hub, folder))
    assert "the push broke off (Error while uploading 'model.safetensors' to the Hub" in said
    assert f"could not be deleted: do it at {hub.address}/{NAME}/settings" in said
    left = hub.repositories[NAME]
    assert (left.private, list(left.files)) == (True, [".gitattributes"])
    hub.faults.clear()
    assert push(hub, folder).json["private"]  # the empty repository is taken up, and stays as it is
    assert set(contents(folder)) <= set(left.files)


def test_a_new_repository_is_never_seen_by_others_before_it_is_complete(hub: Hub, folder: Path) -> None:
    hub.faults["PUT /api/models/someone/tiny/settings"] = 403
    said = refusal(push(hub, folder))
    assert "the export is there and whole, but could not be made public" in said
    assert hub.repositories[NAME].private
    assert set(contents(folder)) <= set(hub.repositories[NAME].files)


def test_a_private_repository_stays_private(hub: Hub, folder: Path) -> None:
    assert push(hub, folder, private=True).json["private"]
    assert hub.repositories[NAME].private
    assert "PUT /api/models/someone/tiny/settings" not in hub.requests


def test_a_token_without_rights_is_told_with_the_remedy(hub: Hub, folder: Path) -> None:
    for name, token, said in (
        (NAME, READER, f"the token has no right to write there: make one that has at {hub.address}/settings/tokens"),
        ("others/tiny", WRITER, "the token has no right to write there"),
        (NAME, "hf_expired", "the Hub does not accept the token: run `hf auth login` again"),
    ):
        assert f"{name}: {said}" in refusal(push(hub, folder, name, token))
    hub.holding(NAME, {".gitattributes": b""})
    assert "the token has no right to write there" in refusal(push(hub, folder, token=READER))
    assert len(hub.repositories[NAME].commits) == 1


def test_a_repository_of_others_is_refused_unless_overwrite_is_given(hub: Hub, folder: Path) -> None:
    theirs = {"README.md": b"# Mine\n", "notes/all.txt": b"mine", ".gitattributes": b""}
    here = hub.holding(NAME, theirs)
    for dry_run in (False, True):
        said = refusal(push(hub, folder, dry_run=dry_run))
        assert f"{NAME} exists and holds no export of prunecast (no prunecast_export.json)" in said
        assert "--overwrite" in said
    assert (here.files, hub.writes) == (theirs, [])
    assert push(hub, folder, overwrite=True).code == 0
    assert here.files == {**theirs, **contents(folder)}


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "adapter_config.json", ".gitignore"])
def test_files_of_others_that_would_not_go_with_the_export_are_in_the_way(hub: Hub, folder: Path, name: str) -> None:
    here = hub.holding(NAME, {name: b"{}"})
    assert f"{NAME} holds {name} of another origin" in refusal(push(hub, folder, overwrite=True))
    assert here.files == {name: b"{}"}


def test_an_export_of_another_subject_is_replaced_only_with_overwrite(hub: Hub, folder: Path) -> None:
    assert push(hub, folder).code == 0
    here = hub.repositories[NAME]
    here.commit({**here.files, "notes.txt": b"mine"})
    stored = json.loads((folder / "prunecast_export.json").read_text())
    origin = stored["origin"]
    other = {**origin, "subject": {**origin["subject"], "architecture": "another"}}
    files = {name: digest for name, digest in stored["files"].items() if name != "generation_config.json"}
    rewrite_manifest(folder, origin=other, files=files)
    (folder / "generation_config.json").unlink()

    said = refusal(push(hub, folder))
    assert f"{NAME} holds the export of run 'tiny', of another architecture" in said
    tried = push(hub, folder, overwrite=True, dry_run=True).json
    assert tried["deleted"] == ["generation_config.json"]
    assert len(here.commits) == 3
    assert push(hub, folder, overwrite=True).code == 0
    assert here.files == {**contents(folder), ".gitattributes": here.files[".gitattributes"], "notes.txt": b"mine"}


def test_a_card_that_was_edited_on_the_hub_is_not_lost(hub: Hub, folder: Path) -> None:
    assert push(hub, folder).code == 0
    here = hub.repositories[NAME]
    edited = here.files["README.md"] + b"\nEdited there.\n"
    here.commit({**here.files, "README.md": edited})
    assert f"{NAME}: README.md was edited there: take it over into {folder}" in refusal(push(hub, folder))
    (folder / "README.md").write_bytes(edited)
    assert push(hub, folder).json["unchanged"]
    (folder / "README.md").write_bytes(edited + b"Edited here.\n")
    assert push(hub, folder, overwrite=True).json["uploaded"] == ["README.md"]
    assert here.files["README.md"].endswith(b"Edited here.\n")


def test_only_the_files_of_the_export_are_uploaded(hub: Hub, folder: Path) -> None:
    exported = contents(folder)
    for name in ("secret.env", "..hidden", "-rf", "a b\u202e.txt", "optimizer.bin", ".git/config", "sub/notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not to be published")
    assert push(hub, folder).code == 0
    assert hub.repositories[NAME].files.keys() - {".gitattributes"} == exported.keys()


def test_a_folder_that_is_not_as_it_was_exported_is_refused(hub: Hub, folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text("{}")
    assert "files of the export are missing, or have changed" in refusal(push(hub, folder))
    rewrite_manifest(folder, files={"../secret": "0" * 64})
    assert "no export is there (no prunecast_export.json)" in refusal(push(hub, folder))
    assert "no export is there" in refusal(push(hub, tmp_path / "home"))
    assert hub.writes == []


def test_a_card_that_is_a_link_to_another_file_is_not_uploaded(hub: Hub, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not to be published")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    assert "have changed since" in refusal(push(hub, folder))
    assert hub.writes == []


def test_what_others_change_meanwhile_is_not_overwritten(hub: Hub, folder: Path) -> None:
    here = hub.holding(NAME, {".gitattributes": b""})
    theirs = {".gitattributes": b"", "config.json": b"theirs"}
    hub.meanwhile["POST /api/models/someone/tiny/preupload/main"] = lambda: here.commit(theirs)
    assert "it was changed while this was pushed: look at what is there" in refusal(push(hub, folder))
    assert here.files == theirs


def test_a_new_repository_that_somebody_else_has_filled_meanwhile_is_not_deleted(hub: Hub, folder: Path) -> None:
    theirs = {"config.json": b"theirs"}
    hub.meanwhile["POST /api/models/someone/tiny/preupload/main"] = lambda: hub.repositories[NAME].commit(theirs)
    hub.faults[r"PUT /storage/\w+"] = 403
    assert f"files are in the new repository {hub.address}/{NAME}, which is private" in refusal(push(hub, folder))
    assert hub.repositories[NAME].files == theirs
