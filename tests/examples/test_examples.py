"""The packages under ``examples/``, each installed into its own virtual environment.

Needs a package index. A ``.pth`` file gives access to prunecast's dependencies, so that torch is not installed again.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
from places import REPOSITORY
from workplace import Workplace

import prunecast
import prunecast_plugins

EXAMPLES = REPOSITORY / "examples"
OUTSIDE: dict[str, list[str]] = {
    "prunecast-family": [],
    "prunecast-lightgbm": ["lightgbm"],
    "prunecast-mlflow": [
        *(
            "mlflow-skinny",
            "cachetools<8",
            "databricks-sdk",
            "fastapi",
            "importlib_metadata<10",
            "sqlparse",
            "starlette",
        ),
        *("opentelemetry-api", "opentelemetry-proto", "opentelemetry-sdk", "opentelemetry-semantic-conventions"),
    ],
    "prunecast-nevergrad": ["nevergrad"],
    "prunecast-tensorboard": ["tensorboardX", "protobuf"],
}
"""Libraries that each package wraps; installed in its environment only."""

pytestmark = pytest.mark.slow


class Environment:
    """A virtual environment with one example, and the working directory of its commands."""

    def __init__(self, folder: Path, example: str, workplace: Workplace) -> None:
        self.example, self._workplace = EXAMPLES / example, workplace
        venv.create(folder, with_pip=False)
        self._python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        roots = [Path(package.__file__ or "").parents[1] for package in (prunecast, prunecast_plugins)]
        seen = [*roots, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        site = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
        (Path(site) / "base.pth").write_text("".join(f"{path}\n" for path in seen))
        install = ["-m", "pip", "--python", str(self._python), "install", "--quiet", "--no-deps"]
        self._run(sys.executable, *install, "--no-build-isolation", *OUTSIDE[example], str(self.example))

    def python(self, *arguments: str, **environment: str) -> str:
        """Output of the environment's Python in the workplace."""
        return self._run(str(self._python), *arguments, **environment)

    def prunecast(self, *arguments: str, **environment: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.python("-m", "prunecast", *arguments, "--json", **environment))

    def _run(self, *command: str, **environment: str) -> str:
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            command,
            cwd=self._workplace.folder,
            env=clean | {"PRUNECAST_REGISTRY": "registry.db", "OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def installed(request: pytest.FixtureRequest, tmp_path: Path, continued: Workplace) -> Environment:
    """The environment of the example that the test is parametrised with; the workplace holds one finished run."""
    return Environment(tmp_path / "venv", request.param, continued)


@pytest.mark.parametrize(
    ("installed", "kind", "name", "options"),
    [
        ("prunecast-lightgbm", "predictor", "lightgbm", {"trees": 20}),
        ("prunecast-nevergrad", "searcher", "nevergrad", {"trials": 40, "startup": 100}),
    ],
    indirect=["installed"],
    ids=["predictor", "searcher"],
)
def test_an_example_replaces_a_bundled_plugin_by_one_line_of_a_spec(
    installed: Environment, continued: Workplace, kind: str, name: str, options: dict[str, Any]
) -> None:
    listed = installed.prunecast("plugins", "list", "--kind", kind)
    assert [(row["distribution"], row["version"]) for row in listed if row["name"] == name] == [
        (installed.example.name, "1.0")
    ]

    line = ("--set", f"{kind}={json.dumps({'use': name, **options})}")
    swapped = installed.prunecast("run", "tiny.yaml", "--set", "export=null", *line)
    assert swapped["run"] == 2
    assert swapped["best"]["parameters"] <= swapped["budget"]["parameters"]
    # The pairs do not depend on the plugin, so only the architectures that it chose are measured.
    assert swapped["evaluations"]["cached"] >= 12
    assert swapped["evaluations"]["measured"] <= 2 * 3 + 2 + 2 * 2

    compared = {row["what"]: row for row in installed.prunecast("runs", "compare", "1", "2")}
    assert compared[f"spec: {kind}.use"]["second"] == name
    assert compared["best: validation.validation.ppl"]["second"] == next(iter(swapped["best"]["metrics"].values()))
    assert compared["measured"]["second"] == swapped["evaluations"]["measured"]
    assert compared["evaluations in both"]["first"] >= 12

    back = installed.prunecast("run", "tiny.yaml", "--set", "export=null")
    assert (back["run"], back["evaluations"]["measured"]) == (1, 0)


@pytest.mark.parametrize("installed", ["prunecast-lightgbm", "prunecast-nevergrad", "prunecast-family"], indirect=True)
def test_an_example_passes_its_own_tests(installed: Environment) -> None:
    said = own_tests(installed)
    assert " passed" in said
    assert "failed" not in said


def own_tests(installed: Environment) -> str:
    """Output of the tests of an example."""
    return installed.python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(installed.example), str(installed.example)
    )


@pytest.mark.parametrize("installed", ["prunecast-family"], indirect=True)
def test_a_model_of_a_family_is_pruned_without_a_line_about_it(installed: Environment, continued: Workplace) -> None:
    installed.python(str(installed.example / "train.py"), "twin", "--steps", "20")
    spec = continued.folder / "twin-pruned.yaml"
    spec.write_text((installed.example / "twin.yaml").read_text())
    short = ("collect.pairs=6", "rounds=1", "per_round=2", "baselines=[]")
    result = installed.prunecast("run", spec.name, *(part for each in short for part in ("--set", each)))
    assert result["best"]["parameters"] <= result["budget"]["parameters"]
    code = "import sys; sys.modules['prunecast'] = None; from transformers import AutoModelForCausalLM as A; "
    code += "print(A.from_pretrained('out/twin-pruned', trust_remote_code=True).num_parameters())"
    assert int(installed.python("-P", "-c", code)) == result["best"]["parameters"]


@pytest.mark.parametrize("installed", ["prunecast-tensorboard"], indirect=True)
def test_the_tracker_writes_events_that_tensorboard_reads(installed: Environment, continued: Workplace) -> None:
    result = installed.prunecast("run", "tiny.yaml", "--set", "export=null", PRUNECAST_TENSORBOARD="boards")
    [written] = (continued.folder / "boards" / "tiny-1").glob("events.out.tfevents.*")
    code = """if True:
        import json, sys
        from tensorboardX.event_file_writer import EventFileWriter
        from tensorboardX.proto.event_pb2 import Event
        data, points = open(sys.argv[1], "rb").read(), []
        while data:  # records of TFRecord: length, its checksum, the event, its checksum
            length = int.from_bytes(data[:8], "little")
            points += [(v.tag, v.simple_value) for v in Event.FromString(data[12 : 12 + length]).summary.value]
            data = data[16 + length :]
        print(json.dumps(points))
    """
    points = json.loads(installed.python("-c", code, str(written)))
    best = [value for tag, value in points if tag == "best/validation.validation.ppl"]
    assert len(best) == 2
    assert best[-1] == pytest.approx(result["best"]["metrics"]["validation.validation.ppl"], rel=1e-6)
    assert ("predictor/pairs", 18.0) in [tuple(point) for point in points]
    assert "status/text_summary" in {tag for tag, _ in points}


@pytest.mark.parametrize("installed", ["prunecast-mlflow"], indirect=True)
def test_the_tracker_passes_its_own_tests_and_logs_a_run_to_mlflow(installed: Environment) -> None:
    said = own_tests(installed)
    assert " passed" in said
    assert "skipped" not in said, "MLflow is installed"
    store = {"PRUNECAST_MLFLOW": "sqlite:///mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}
    result = installed.prunecast("run", "tiny.yaml", "--set", "export=null", **store)
    code = """if True:
        import json, os
        from mlflow import MlflowClient
        client = MlflowClient(tracking_uri=os.environ["PRUNECAST_MLFLOW"])
        (run,) = client.search_runs([client.get_experiment_by_name("prunecast").experiment_id])
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
        print(json.dumps([run.info.status, run.data.metrics, files]))
    """
    status, metrics, files = json.loads(installed.python("-c", code, **store))
    assert (status, files) == ("FINISHED", ["architecture.txt", "layers.png", "results.csv", "spec.json"])
    best = result["best"]["metrics"]["validation.validation.ppl"]
    assert metrics["result/validation.validation.ppl"] == pytest.approx(best)
