"""The documentation equals the schema; Datasette shows every table and view, and its links are valid."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from places import REPOSITORY
from registry_samples import PPL, architecture, card, measurements, result, setting, shape, start

from prunecast.architecture.architecture import Layer
from prunecast.architecture.speed import LayerTimes, SpeedTable, Times
from prunecast.registry.records import Timing
from prunecast.registry.schema.documentation import TABLES, VIEWS, datasette_yaml, page
from prunecast.registry.store import Registry
from prunecast.registry.upkeep.verify import problems


def test_docs_and_datasette_yaml_equal_the_generated_ones() -> None:
    written = (REPOSITORY / "docs" / "reference" / "registry.md").read_text(encoding="utf-8")
    assert written == page(written), "stale: make schema"
    assert (REPOSITORY / "datasette.yaml").read_text(encoding="utf-8") == datasette_yaml(), "stale: make schema"


def test_exactly_the_existing_tables_views_and_columns_have_a_meaning(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "registry.db") as registry:
        database = registry.database
        assert {name for name in database.table_names() if name[0] != "_"} == set(TABLES)
        assert set(database.view_names()) == set(VIEWS)
        for name, (_, meanings) in {**TABLES, **VIEWS}.items():
            assert set(meanings) <= set(database[name].columns_dict), name
    datasette_yaml()  # raises for a column without a meaning


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of Datasette serving a small registry."""
    path = tmp_path_factory.mktemp("served") / "registry.db"
    with Registry.open(path) as registry:
        run = start(registry)
        for number in range(3):
            registry.record(run, "pairs", setting(), architecture(number), measurements(30.0 + number), 2.0, "cpu")
        registry.record_failure(run, setting(), architecture(9), "out of memory")
        registry.record_steps(run, setting(), architecture(0), 1, {(0, Layer(4, 2, 12)): (0.125, 0.25)}, 2.0)
        written = {"target": "gguf", "folder": "/x", "architecture": "1x1+1", "parameters": 9, "bytes": 9, "notes": []}
        registry.keep_exports(run, [{**written, "unchanged": False, "parity": None}])
        timing = Timing(shape(), [["1x1"], [0, 8]], "a processor", "float32", 1, 1, 16, "torch 2")
        layers = (LayerTimes(((1, 1, Times(5, 4)),), ((0, Times(0, 0)), (8, Times(7, 6)))),)
        registry.keep_speeds(timing, SpeedTable(1, 16, Times(100, 50), (0, 0), layers), 1.5)
        registry.finish_run(run, "finished", result(card()).to_json())
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "datasette", "serve", str(path), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--metadata", str(REPOSITORY / "datasette.yaml"), "--setting", "sql_time_limit_ms", "20000"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urlopen(address, timeout=30).close()
            break
        except URLError:
            assert server.poll() is None, server.stderr and server.stderr.read()
            time.sleep(0.1)
    yield address
    server.terminate()
    server.communicate(timeout=30)


def read(address: str) -> str:
    with urlopen(address, timeout=60) as response:
        return unescape(response.read().decode())


@pytest.mark.parametrize("name", [*VIEWS, *(name for name in TABLES if "leases" not in name)])
def test_datasette_shows_every_view_and_table_and_its_links_lead_to_rows(served: str, name: str) -> None:
    shown = read(f"{served}/registry/{name}")
    assert {**TABLES, **VIEWS}[name][0] in shown.replace("\n", " ")
    assert "<td" in shown, "no row is shown"
    links = set(re.findall(r'<a href="(/registry/\w+/\d+)">', shown))
    if name in ("settings", "evaluations", "metric_values", "run_evaluations", "failures", "steps"):
        assert {link.split("/")[2] for link in links} >= set(re.findall(r"-> (\w+)", section(name)))
    for link in links:
        assert "<td" in read(served + link)


def section(table: str) -> str:
    """Section of docs/reference/registry.md about a table."""
    return (
        (REPOSITORY / "docs" / "reference" / "registry.md")
        .read_text(encoding="utf-8")
        .split(f"### {table}\n")[1]
        .split("###")[0]
    )


def test_datasette_links_to_models_and_runs_by_name(served: str) -> None:
    assert '<a href="/registry/models/1">tiny</a>' in read(f"{served}/registry/settings")
    assert '<a href="/registry/runs/1">first</a>' in read(f"{served}/registry/evaluations")
    assert PPL.name in read(f"{served}/registry/measurements")
    assert str(architecture(0)) in read(f"{served}/registry/measurements")


def test_the_shipped_registry_is_valid_and_of_the_latest_schema() -> None:
    with Registry.open(REPOSITORY / "registry.db", readonly=True) as registry:
        assert list(problems(registry)) == []
