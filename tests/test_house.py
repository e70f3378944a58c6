"""Rules of the source tree: allowed imports between packages, cheap imports, and no local paths in files."""

import subprocess
import sys
from pathlib import Path

import pytest
from house import PUBLIC, House
from places import REPOSITORY

import prunecast
import prunecast.plugins

CORE = House(REPOSITORY / "core", "prunecast")
BUNDLED = House(REPOSITORY / "plugins", "prunecast_plugins")

HEAVY = {"datasets", "optuna", "sklearn", "torch", "transformers", "xgboost"}

ROOMS = ("low", "high")


def planted(folder: Path, **modules: str) -> House:
    """A source tree of two packages with the given modules, named ``room__module``."""
    for name, text in modules.items():
        file = folder / "planted" / Path(*name.split("__")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return House(folder, "planted")


def test_every_module_is_in_a_listed_package() -> None:
    assert CORE.unnamed() == []


def test_no_package_imports_from_a_package_above() -> None:
    assert CORE.upward() == []


def test_there_are_no_import_cycles() -> None:
    assert CORE.circles() == []
    assert BUNDLED.circles() == []


def test_an_upward_import_is_found(tmp_path: Path) -> None:
    house = planted(tmp_path, low__one="def f():\n    from planted.high import two\n", high__two="")
    assert house.upward(ROOMS) == ["planted.low.one -> planted.high.two"]
    assert planted(tmp_path / "sound", low__one="", high__two="import planted.low.one").upward(ROOMS) == []


def test_an_import_cycle_is_found(tmp_path: Path) -> None:
    links = {"low__one": "from planted.low import two", "low__two": "import planted.low.three", "low__three": ""}
    assert planted(tmp_path / "chain", **links).circles() == []
    closed = planted(tmp_path / "circle", **links | {"low__three": "from planted.low.one import x"})
    assert closed.circles() == [["planted.low.one", "planted.low.three", "planted.low.two"]]


def test_a_module_in_an_unlisted_folder_is_found(tmp_path: Path) -> None:
    house = planted(tmp_path, low__one="", attic__two="", low__cellar__three="", stray="")
    assert house.unnamed(ROOMS) == ["planted.attic.two", "planted.low.cellar.three", "planted.stray"]


def test_no_core_module_imports_a_bundled_plugin() -> None:
    found = {other for others in CORE.imports.values() for other in others}
    assert [other for other in found if other.split(".")[0] == "prunecast_plugins"] == []


def test_bundled_plugins_import_only_public_modules_of_the_core() -> None:
    offending = [
        f"{module} -> {other}"
        for module, others in BUNDLED.imports.items()
        for other in sorted(others)
        if other.split(".")[0] == "prunecast" and other not in PUBLIC
    ]
    assert offending == []


def test_imports_are_absolute() -> None:
    houses = (CORE, BUNDLED)
    assert [
        m for house in houses for m, others in house.imports.items() if any(o.startswith(".") for o in others)
    ] == []


@pytest.mark.parametrize("package", [prunecast, prunecast.plugins])
def test_every_public_name_can_be_imported(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))  # type: ignore[attr-defined]


def test_importing_a_renamed_module_fails_with_its_new_name() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"prunecast\.interfaces is now prunecast\.plugins"):
        __import__("prunecast.interfaces")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'prunecast\.never'"):
        __import__("prunecast.never")


def test_commands_plugins_and_the_public_packages_import_nothing_heavy() -> None:
    commands = [module for module in CORE.files if CORE.room_of(module) in {"cli", "plugins", "problem"}]
    light = ["prunecast", "prunecast.plugins", *commands, *BUNDLED.files]
    code = f"""if True:
        import importlib, sys
        heavy = set({sorted(HEAVY)})
        for module in {light}:
            before = heavy & set(sys.modules)
            importlib.import_module(module)
            for name in sorted(heavy & set(sys.modules) - before):
                print(module, "imports", name)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == ""


def test_no_tracked_file_contains_a_local_path() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "grep", "--line-number", "--extended-regexp", r"/(work|root|tmp|home|Users)/"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
