"""Without a network the Hub is given up on after seconds; its cache on this machine is still used."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ASK = """
import json, time
from prunecast import hub
hub.CONNECT_SECONDS = 1.0
from prunecast.data import read_text
from prunecast.models.source import resolve_source
from prunecast.registry.sharing.publish import publish
said, start = [], time.monotonic()
for call in (
    lambda: resolve_source("acme/nope"),
    lambda: read_text("acme/nope", "train"),
    lambda: publish(None, "acme/nope"),
):
    try:
        call()
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
from huggingface_hub import constants
found = str(resolve_source("acme/there").path) if %r else ""
print(json.dumps([said, time.monotonic() - start, constants.HF_HUB_OFFLINE, found]))
"""


def ask(endpoint: str, home: Path, cached: bool = False) -> tuple[list[str], float, bool, str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "HF_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", ASK % cached], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    said, seconds, offline, found = json.loads(done.stdout)
    return said, seconds, offline, found


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["silent", "refusing", "unknown"])
def test_the_hub_is_given_up_on_after_seconds(kind: str, silent: str, tmp_path: Path) -> None:
    endpoint = {"silent": silent, "refusing": "http://127.0.0.1:9", "unknown": "http://hub.invalid"}[kind]
    said, seconds, offline, _ = ask(endpoint, tmp_path)
    assert seconds < 15
    assert not offline, "libraries are left as they were"
    assert [line.partition(":")[0] for line in said] == ["ModelError", "DataError", "RegistryError"]
    assert all("does not answer" in line and "\n" not in line for line in said)
    assert f"{endpoint} does not answer, and its cache on this machine does not have it" in said[0]


def test_a_model_in_the_cache_of_the_hub_is_used_without_a_network(silent: str, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--acme--there"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    (snapshot / "config.json").write_text("{}")
    assert ask(silent, tmp_path, cached=True)[3] == str(snapshot)


class _Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(503)

    do_GET = do_HEAD

    def log_message(self, *rest: object) -> None:
        pass


def test_a_hub_that_answers_with_an_error_is_not_unreachable(tmp_path: Path) -> None:
    code = "from prunecast.hub import unreachable; print(unreachable())"
    with HTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        server.shutdown()
    assert done.stdout == "False\n"


def test_offline_mode_asks_nothing(silent: str) -> None:
    code = "from prunecast.hub import unreachable; print(unreachable())"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": silent}
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, time.monotonic() - start < 5) == ("False\n", True)
