"""Wheel and sdist have all required files and no others, and work outside the checkout."""

import json
import os
import subprocess
import sys
import tarfile
import venv
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import click
import pytest
from places import RELEASED_REGISTRIES, REPOSITORY


def build(source: Path, folder: Path) -> None:
    """Build sdist and wheel of a source tree into a folder, without an environment of its own for that."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a newly built wheel and sdist."""
    folder = tmp_path_factory.mktemp("built")
    build(REPOSITORY, folder)
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the contents of the wheel."""
    [wheel] = built.glob("prunecast-*-py3-none-any.whl")
    folder = tmp_path_factory.mktemp("unpacked")
    ZipFile(wheel).extractall(folder)
    return folder


def relative_files(folder: Path, pattern: str) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob(pattern) if file.is_file()}


def test_the_wheel_has_every_module_of_both_packages(unpacked: Path) -> None:
    sources = relative_files(REPOSITORY / "core", "*.py") | relative_files(REPOSITORY / "plugins", "*.py")
    assert relative_files(unpacked, "*.py") == sources
    assert relative_files(unpacked, "py.typed") == {"prunecast/py.typed", "prunecast_plugins/py.typed"}


def test_the_wheel_has_all_specs_and_their_schema(unpacked: Path) -> None:
    assert relative_files(unpacked / "prunecast" / "specs", "*") == relative_files(REPOSITORY / "specs", "*")
    assert {"quickstart.yaml", "prunecast.schema.json"} <= relative_files(unpacked / "prunecast" / "specs", "*")


def test_the_wheel_has_no_registry_no_tests_and_no_other_folders(unpacked: Path) -> None:
    [metadata] = unpacked.glob("prunecast-*.dist-info")
    assert {entry.name for entry in unpacked.iterdir()} == {"prunecast", "prunecast_plugins", metadata.name}
    assert {
        name
        for name in relative_files(unpacked, "*")
        if name.endswith((".db", ".pyc")) or Path(name).name.startswith("test_")
    } == set()
    assert (metadata / "licenses" / "LICENSE").is_file()


def test_an_unpacked_wheel_has_its_command_plugins_and_specs(unpacked: Path, tmp_path: Path) -> None:
    code = """if True:
        import json, prunecast, prunecast_plugins
        from importlib.metadata import distribution
        from prunecast.plugins.host import KINDS, PluginHost
        from prunecast.spec.load import load_spec, packaged_specs
        host = PluginHost.discover()
        points = distribution("prunecast").entry_points
        print(json.dumps({
            "files": [prunecast.__file__, prunecast_plugins.__file__, *map(str, packaged_specs().values())],
            "points": sorted(f"{point.group}: {point.name} = {point.value}" for point in points),
            "plugins": {kind: len(host.entries(kind)) for kind in KINDS},
            "spec": load_spec("quickstart", host).name,
        }))
    """
    # With -P and PYTHONPATH the unpacked files come before an editable install and the working directory is not used.
    environment = os.environ | {"PYTHONPATH": str(unpacked), "PRUNECAST_DISABLE_PLUGINS": ""}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [file for file in found["files"] if not Path(file).is_relative_to(unpacked)] == []
    assert found["points"] == [
        "console_scripts: prunecast = prunecast.cli:main",
        "prunecast: bundled = prunecast_plugins.registration",
        "pytest11: prunecast = prunecast.pytest_plugin",
    ]
    assert [kind for kind, count in found["plugins"].items() if count == 0] == []
    assert found["spec"] == "quickstart"


def test_the_wheel_of_an_unpacked_sdist_has_the_same_files(built: Path, unpacked: Path, tmp_path: Path) -> None:
    [sdist] = built.glob("prunecast-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    [source] = (tmp_path / "source").iterdir()
    assert relative_files(source, "*.db") == {
        f"tests/registry/released/{file.name}" for file in RELEASED_REGISTRIES.glob("*.db")
    }
    build(source, tmp_path / "again")
    [wheel] = (tmp_path / "again").glob("*.whl")
    with ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if not name.endswith("/")} == relative_files(unpacked, "*")


def test_a_wheel_installed_by_pip_into_an_empty_environment_works(built: Path, tmp_path: Path) -> None:
    """Its requirements are those of this environment, by a path: fetching them takes minutes and a network."""
    venv.create(tmp_path / "venv", symlinks=True)
    python, command = tmp_path / "venv/bin/python", tmp_path / "venv/bin/prunecast"
    [wheel] = built.glob("prunecast-*-py3-none-any.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=120)
    [packages] = (tmp_path / "venv/lib").glob("python*/site-packages")
    (packages / "requirements.pth").write_text(f"{Path(click.__file__).parents[1]}\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def said(*arguments: str | Path) -> str:
        done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    imported = said(python, "-c", "import prunecast, prunecast_plugins as p; print(prunecast.__file__, p.__file__)")
    assert all(Path(file).is_relative_to(packages) for file in imported.split())
    assert said(command, "--version") == f"prunecast, version {version('prunecast')}\n"
    assert said(command, "spec", "validate", "quickstart").startswith("quickstart is valid")
    listed = json.loads(said(command, "plugins", "list", "--json"))
    assert {"prunecast"} == {row["distribution"] for row in listed if row["name"] in ("layerwise", "gp", "gguf")}
