"""Local plugins: their hash covers the local modules they import, and edited modules are imported again."""

import subprocess
import sys
from pathlib import Path

import pytest

from prunecast.plugins.local import code_hash_of, imported, modules_at


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "edited"),
    [
        ({"own": "import helper_a", "helper_a": "X = 1"}, "helper_a"),
        ({"own": "from helper_b import X", "helper_b": "from deeper_b import X", "deeper_b": "X = 1"}, "deeper_b"),
        ({"own": "def f():\n    import helper_c", "helper_c": "X = 1"}, "helper_c"),
        ({"own": "import tools_d.inner", "tools_d____init__": "", "tools_d__inner": "X = 1"}, "tools_d/inner"),
        ({"own": "from tools_e import inner", "tools_e__inner": "X = 1"}, "tools_e/inner"),
        ({"own": "if True:\n    import helper_f as h", "helper_f": "X = 1"}, "helper_f"),
    ],
    ids=["module", "chain", "in a function", "package", "namespace package", "under a condition"],
)
def test_an_edit_of_an_imported_local_module_changes_the_hash(
    tmp_path: Path, files: dict[str, str], edited: str
) -> None:
    write(tmp_path, **files)
    before = code_hash_of(tmp_path / "own.py")
    (tmp_path / f"{edited}.py").write_text("X = 2")
    assert code_hash_of(tmp_path / "own.py") != before


def test_scripts_in_the_folder_of_a_plugin_are_not_run(tmp_path: Path) -> None:
    write(tmp_path, own="from prunecast.plugins import hookimpl", train="raise SystemExit('a script was run')")
    (tmp_path / "folder.py").mkdir()
    assert [file.name for _, file, _ in modules_at(tmp_path)] == ["own.py"]
    assert [file.name for _, file, _ in modules_at(tmp_path / "train.py")] == ["train.py"]


def test_what_a_plugin_does_not_import_is_not_part_of_its_hash(tmp_path: Path) -> None:
    write(tmp_path, own="import json, numpy\nfrom prunecast.plugins import hookimpl", beside="X = 1")
    before = code_hash_of(tmp_path / "own.py")
    write(tmp_path, beside="X = 2", json="X = 3")  # json of the standard library comes first
    assert code_hash_of(tmp_path / "own.py") == before


def test_the_hash_of_a_file_without_local_imports_is_that_of_earlier_versions(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("X = 1\n")
    # Names and contents, joined by null bytes: BLAKE2b-16 of b"own.py\0X = 1\n".
    assert code_hash_of(tmp_path / "own.py") == "6f5230c55aadc456f5b2a3098607c81f"


def test_modules_outside_the_folder_of_a_plugin_are_found_through_the_path(tmp_path: Path) -> None:
    plugin = write(tmp_path / "plugin", own="import shared_g") / "own.py"
    shared = write(tmp_path / "lib", shared_g="X = 1")
    code = f"import pathlib, prunecast.plugins.local as local; print(local.code_hash_of(pathlib.Path({str(plugin)!r})))"

    def hash_with(text: str) -> str:
        write(shared, shared_g=text)
        path = [str(shared), *(place for place in sys.path if place)]
        run = [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {code}"]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout

    assert hash_with("X = 1") != hash_with("X = 2")


def test_an_edited_module_is_imported_again_in_the_same_process(tmp_path: Path) -> None:
    own = write(tmp_path, own="from helper_h import X", helper_h="X = 1") / "own.py"
    first = _import(own)
    write(tmp_path, helper_h="X = 2")
    assert (first.X, _import(own).X) == (1, 2)  # type: ignore[attr-defined]


def test_plugins_of_two_folders_have_each_its_own_module_of_one_name(tmp_path: Path) -> None:
    found = [
        _import(write(tmp_path / name, own="from helper_i import X", helper_i=f"X = {name!r}") / "own.py")
        for name in ("one", "two")
    ]
    assert [each.X for each in found] == ["one", "two"]  # type: ignore[attr-defined]


def _import(file: Path) -> object:
    ((name, found, _),) = modules_at(file)
    return imported(found, name)
