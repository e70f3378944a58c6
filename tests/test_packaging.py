"""The wheel has all required files and no others, and works outside the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from places import REPOSITORY


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the contents of a newly built wheel."""
    built = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
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
