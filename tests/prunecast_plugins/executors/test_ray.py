"""The executor ``ray`` on clusters of several nodes, all on this machine."""

import json
import subprocess
import sys

import pytest
from places import SUPPORT
from workplace import Workplace

SCRIPT = """
import json, os, sys, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster

cluster = Cluster()
first = cluster.add_node(num_cpus=1, include_dashboard=False, object_store_memory=80 * 1024**2)
nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 * 1024**2)]
os.environ["RAY_ADDRESS"] = cluster.address
calls = Path("calls.log")

def meddle():
    while not calls.exists() or len(calls.read_text().splitlines()) < 5:
        time.sleep(0.05)
    if "lose" in sys.argv:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    if "join" in sys.argv:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 1024**2)

threading.Thread(target=meddle, daemon=True).start()
import prunecast
result = prunecast.run("lethal.yaml", registry=sys.argv[1], progress=True, executor="ray").to_json()
print(json.dumps(result))
cluster.shutdown()
"""


def run_on_two_nodes(workplace: Workplace, *what: str) -> dict:  # type: ignore[type-arg]
    """Result of ``lethal.yaml`` on a cluster that something happens to."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "ray.db", *what],
        cwd=workplace.folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict = json.loads(done.stdout.splitlines()[-1])  # type: ignore[type-arg]
    return found


@pytest.fixture
def lethal(workplace: Workplace) -> Workplace:
    """A workplace with a spec whose evaluator takes half a second, and logs its calls."""
    pytest.importorskip("ray")
    (workplace.folder / "lethal.py").write_text((SUPPORT / "lethal.py").read_text())
    log = str(workplace.folder / "calls.log")
    evaluators = [
        {"use": "lethal", "dataset": "validation.txt", "tokens": 256, "context": 64, "mood": "slow", "log": log}
    ]
    changes = {"plugins": ["lethal.py"], "evaluators": evaluators, "verify": {"top": 2}, "export": None}
    workplace.write_spec("lethal", changes)
    return workplace


@pytest.mark.slow
def test_two_nodes_choose_what_one_process_chooses(lethal: Workplace) -> None:
    spread = run_on_two_nodes(lethal)
    assert spread["workers"]["executor"] == "ray"
    assert len(spread["workers"]["answered"]) == 2
    assert spread["workers"]["lost"] == {}
    local = lethal.prunecast("run", "lethal.yaml", "--json").json
    for part in ("best", "dense", "baselines", "rounds", "quality_card"):
        assert spread[part] == local[part]


@pytest.mark.slow
@pytest.mark.parametrize("what", [("lose",), ("lose", "join")])
def test_a_node_that_goes_costs_what_was_in_flight_on_it(what: tuple[str, ...], lethal: Workplace) -> None:
    spread = run_on_two_nodes(lethal, *what)
    assert spread["workers"]["lost"] == {"gone": 1}
    assert sum(spread["workers"]["answered"].values()) == spread["evaluations"]["measured"]
    # A node that joins late in a run may find nothing left to do.
    assert len(spread["workers"]["answered"]) in ((2, 3) if "join" in what else (2,))


def outcome_of(workplace: Workplace, *arguments: str) -> str:
    outcome = workplace.prunecast("run", "tiny.yaml", "--set", "export=null", "--executor", "ray", *arguments)
    assert outcome.code == 1
    return outcome.stderr.splitlines()[-1]


def test_without_ray_the_error_says_how_to_install_it(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert outcome_of(workplace) == 'error: executor ray: Ray is not installed: pip install "prunecast[ray]"'


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_that_does_not_answer_is_one_line(scheme: str, workplace: Workplace) -> None:
    pytest.importorskip("ray")
    message = outcome_of(workplace, "--set", f"executor={{use: ray, address: '{scheme}127.0.0.1:9'}}")
    assert message.startswith(f"error: executor ray: {scheme}127.0.0.1:9 does not answer (")
    assert message.endswith("start the cluster (ray start --head), or correct executor.address")


@pytest.mark.slow
def test_a_worker_that_no_node_has_room_for_is_refused(workplace: Workplace) -> None:
    pytest.importorskip("ray")
    message = outcome_of(workplace, "--set", "executor={use: ray, cpus: 1000}")
    assert "and a worker needs {'CPU': 1000.0}: set executor.cpus and executor.gpus to what a node has" in message
