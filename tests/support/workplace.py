"""A folder to run prunecast in: a tiny model with a tokenizer, texts, and a spec that runs in seconds."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape

TEXTS = ("calibration.txt", "validation.txt", "test.txt")

SPEC: dict[str, Any] = {
    "model": {"source": "model", "dtype": "float32", "device": "cpu"},
    "space": {"use": "layerwise", "attention": [0.0, 0.25, 0.5, 1.0], "mlp": [0.0, 0.25, 0.5, 0.75]},
    "pruner": {"use": "taylor", "calibration": {"dataset": "calibration.txt", "samples": 2, "tokens": 32}},
    "evaluators": [{"use": "perplexity", "dataset": "validation.txt", "tokens": 256, "context": 64}],
    "predictor": {"use": "gbdt", "trees": 10, "members": 2},
    "searcher": {"use": "tpe", "trials": 20, "startup": 200, "seeds": 20},
    "budget": {"parameters": 0.8},
    "collect": {"pairs": 12},
    "rounds": 2,
    "per_round": 3,
    "verify": {
        "top": 2,
        "evaluators": [{"use": "perplexity", "dataset": "test.txt", "split": "test", "tokens": 256, "context": 64}],
    },
    "export": {"path": "out/tiny"},
}

SMOLLM2 = ModelShape(
    family="llama",
    dense=Architecture([(3, 3, 1536)] * 30),
    hidden_size=576,
    head_dim=64,
    vocabulary=49152,
    context=8192,
    embeddings=49152 * 576,
    fixed=49152 * 576 + 576,
    layers=(
        LayerCost(ComponentCost(base=576, unit=2 * 64 * 576, head=2 * 64 * 576), ComponentCost(base=576, unit=3 * 576)),
    )
    * 30,
)
"""The sizes of SmolLM2-135M."""

TINY = ModelShape(
    family="llama",
    dense=Architecture([(4, 2, 24)] * 4),
    hidden_size=64,
    head_dim=8,
    vocabulary=98,
    context=128,
    embeddings=98 * 64,
    fixed=98 * 64 + 64,
    layers=(LayerCost(ComponentCost(base=64, unit=2 * 8 * 64, head=2 * 8 * 64), ComponentCost(base=64, unit=3 * 64)),)
    * 4,
)
"""The sizes of the model of ``tiny_checkpoint``."""

EVALUATIONS = 2 + 12 + 2 * 3 + 2 + 2 * 2
"""Number of evaluations of a run of ``SPEC``: dense, pairs, rounds, verification, baselines."""


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one JSON value on stdout."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Workplace:
    """A folder with ``model/``, the texts and ``tiny.yaml``, and the command line run in it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, checkpoint: Path) -> "Workplace":
        """Fill a folder; the model is a link to ``checkpoint``, the texts are copies of those beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model").symlink_to(checkpoint, target_is_directory=True)
        for name in TEXTS:
            shutil.copy(checkpoint.parent / name, folder)
        workplace = cls(folder)
        workplace.write_spec("tiny", {})
        return workplace

    @property
    def registry(self) -> Path:
        """The default registry of all commands."""
        return self.folder / "registry.db"

    def write_spec(self, name: str, changes: Mapping[str, Any]) -> None:
        """Write ``NAME.yaml``: ``SPEC`` with some top-level keys replaced; None removes one."""
        spec = {key: value for key, value in {**SPEC, **changes}.items() if value is not None}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def prunecast(self, *arguments: str) -> Outcome:
        """Run a command in this process, with the folder as working directory."""
        from click.testing import CliRunner

        from prunecast.cli.main import cli

        environment = {"PRUNECAST_REGISTRY": "registry.db"}
        with chdir(self.folder):
            result = CliRunner().invoke(cli, arguments, env=environment, standalone_mode=False, catch_exceptions=False)
        code = result.return_value if result.return_value is not None else result.exit_code
        return Outcome(code, result.stdout, result.stderr)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command in a subprocess."""
        return subprocess.Popen(
            [sys.executable, "-m", "prunecast", *arguments],
            cwd=self.folder,
            env={**os.environ, "PRUNECAST_REGISTRY": "registry.db", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts background jobs with SIGINT ignored, and their children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of an SQL statement on the registry, read without prunecast."""
        with closing(sqlite3.connect(self.registry)) as connection:
            return connection.execute(statement, parameters).fetchall()
