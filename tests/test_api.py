"""The Python API: the same runs, results and errors as the command line."""

import json
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, closing
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from workplace import EVALUATIONS, SPEC, Outcome, Workplace

import prunecast
from prunecast.errors import ExportError, PrunecastError, RegistryError, SpecError
from prunecast.measure.engine import Engine
from prunecast.run.result import RunResult

METRIC = "validation.validation.ppl"


@pytest.fixture
def inside(continued: Workplace) -> Iterator[Workplace]:
    """A workplace with the registry of a finished run, as the current folder."""
    with chdir(continued.folder):
        yield continued


@pytest.fixture
def result(inside: Workplace) -> RunResult:
    return prunecast.run("tiny.yaml", progress=False)


def test_importing_is_fast_and_loads_no_heavy_library() -> None:
    code = (
        "import time; start = time.perf_counter(); import prunecast; taken = time.perf_counter() - start; import sys; "
        "print(sorted({'torch', 'transformers', 'sklearn', 'optuna', 'numpy'} & set(sys.modules)), taken < 0.5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[] True\n"


def test_importing_submodules_does_not_replace_functions_of_the_same_name() -> None:
    import prunecast.predict.fitted
    import prunecast.run.runner

    assert callable(prunecast.run)
    assert callable(prunecast.predict)
    assert prunecast.run.__doc__.startswith("Run a spec")


def test_a_run_from_python_equals_that_of_the_command_line(
    result: RunResult, finished: tuple[Workplace, Outcome]
) -> None:
    by_command = finished[1].json
    assert (result.measured, result.cached) == (0, EVALUATIONS)
    assert result.best.to_json() == by_command["best"]
    assert [baseline.to_json() for baseline in result.baselines] == by_command["baselines"]


@pytest.mark.parametrize("form", ["path", "text", "mapping", "spec"])
def test_a_spec_can_be_a_path_a_text_a_mapping_or_a_spec(inside: Workplace, form: str) -> None:
    text = Path("tiny.yaml").read_text()
    given: Any = {
        "path": Path("tiny.yaml"),
        "text": text,
        "mapping": SPEC,
        "spec": prunecast.load_spec("tiny.yaml"),
    }[form]
    planned = prunecast.plan(given)
    assert [step.cached for step in planned.steps[:2]] == [2, 12]
    assert prunecast.load_spec("tiny.yaml").key == prunecast.load_spec(SPEC).key


def test_the_table_has_a_row_for_every_candidate(result: RunResult) -> None:
    table = result.table()
    assert list(table.index) == ["dense", "uniform", "uniform-mlp", "best"]
    assert table.loc["dense", "kept"] == 1.0
    assert table.loc["best", "parameters"] == result.best.parameters
    assert table.loc["best", "test.test.ppl"] == result.best.metrics["test.test.ppl"]


def test_the_loaded_model_is_the_best_architecture(result: RunResult, tmp_path: Path) -> None:
    model = result.load_model()
    assert sum(parameter.numel() for parameter in model.parameters()) == result.best.parameters
    # First loaded from the run's export, then exported again because the export was moved.
    moved = Path("out/tiny").rename(tmp_path / "moved")
    again = result.load_model()
    assert moved.is_dir()
    assert not Path("out/tiny").exists()
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        torch.testing.assert_close(again(ids).logits, model(ids).logits)


def test_another_architecture_of_the_run_can_be_exported(result: RunResult, tmp_path: Path) -> None:
    report = result.export(tmp_path / "uniform", result.baselines[0].architecture)
    assert report.parameters == result.baselines[0].parameters
    with pytest.raises(ExportError, match=r"^the architecture: .nonsense. is not a layer"):
        result.export(tmp_path / "none", "nonsense")


def test_predictions_come_from_the_registry_alone(inside: Workplace) -> None:
    dense = prunecast.Architecture([(4, 2, 24)] * 4)
    (found,) = prunecast.predict(dense, metrics=["validation.validation.ppl"])
    assert found.measured is not None
    assert found.low <= found.value <= found.high
    names = [each.name for each in prunecast.predict(SPEC)]
    assert "found" in names


def test_the_best_of_a_run_is_predicted_beside_another_model_of_its_depth(result: RunResult, tmp_path: Path) -> None:
    assert result.registry is not None
    copy = shutil.copy(result.registry, tmp_path / "registry.db")
    with closing(sqlite3.connect(copy)) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(models)") if row[1] not in ("id", "key")]
        listed = ", ".join(columns)
        database.execute(f"INSERT INTO models (key, {listed}) SELECT '{'f' * 32}', {listed} FROM models")
        database.commit()
    with pytest.raises(RegistryError, match="2 models have 4 layers; name one as the model"):
        prunecast.predict(result.best.architecture, copy)
    found = prunecast.predict(result.best.architecture, copy, model=result.model.fingerprint)
    assert {each.metric: each.measured for each in found}.items() <= result.best.metrics.items()


def test_the_best_of_the_registry_are_those_of_the_command_line(inside: Workplace) -> None:
    filters = ("--budget", "parameters=0.5..0.9", "--where", "kept < 0.85")
    by_command = inside.prunecast("registry", "best", METRIC, *filters, "--limit", "3", "--json").json
    found = prunecast.best(METRIC, budget={"parameters": "0.5..0.9"}, where="kept < 0.85", limit=3)
    assert found.to_dict(orient="records") == by_command
    assert len(prunecast.best(METRIC, budget={"parameters": 0.0001})) == 0


def test_no_row_of_a_front_is_dominated_and_every_other_one_is(inside: Workplace) -> None:
    front = prunecast.pareto([METRIC, "parameters"], run=1)
    every = prunecast.best(METRIC, run=1, limit=None)
    values = every[[METRIC, "parameters"]].to_numpy(float)
    dominated = [bool(((values <= point).all(1) & (values < point).any(1)).any()) for point in values]
    assert set(front["key"]) == set(every["key"][~np.array(dominated)])
    assert 1 < len(front) < len(every)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: prunecast.best("x"), RegistryError, "no metric is called 'x'; it holds: "),
        (lambda: prunecast.best(METRIC, "absent.db"), RegistryError, "there is no registry"),
        (lambda: prunecast.best(METRIC, limit=0), RegistryError, "^limit: must be a whole number from 1"),
        (lambda: prunecast.best(METRIC, budget=0.8), RegistryError, "^budget: must be a mapping such as"),
        (lambda: prunecast.best(METRIC, budget={"size": 1}), RegistryError, "^'size' is not a quantity: use one of"),
        (lambda: prunecast.best(METRIC, where="frog > 1"), RegistryError, "^where frog > 1: no such column: frog"),
        (lambda: prunecast.pareto(METRIC), RegistryError, "^criteria: must be a list of names"),
        (lambda: prunecast.pareto([METRIC]), RegistryError, "two or three different criteria"),
        (lambda: prunecast.run("absent.yaml"), SpecError, "no such file"),
        (lambda: prunecast.load_spec({"model": {"sauce": "x"}}), SpecError, "unknown option 'sauce'"),
        (lambda: prunecast.load_spec({"model": object()}), SpecError, "write plain dicts"),
        (lambda: prunecast.run(SPEC | {"budget": {"parameters": 0.01}}), PrunecastError, "meets parameters"),
        (lambda: prunecast.predict(prunecast.Architecture([(1, 1, 1)]), "absent.db"), RegistryError, "no registry"),
        (lambda: prunecast.predict(SPEC, model="model", seed=0), SpecError, "leave out model and seed: the spec"),
        (lambda: prunecast.predict("tiny.yaml", predictor="gbdt"), SpecError, "leave out predictor: the spec"),
        (lambda: prunecast.predict(SPEC, metrics=["x"], pruner="y"), SpecError, "leave out metrics and pruner: "),
        (lambda: prunecast.run(SPEC, registry="model"), RegistryError, "is a folder"),
        (lambda: prunecast.run(7), SpecError, "^spec: must be a path, .* got an object of type int$"),
        (lambda: prunecast.plan(None), SpecError, "^spec: must be .* got None$"),
        (lambda: prunecast.predict(b"model: {}"), SpecError, "got an object of type bytes$"),
        (lambda: prunecast.load_spec(""), SpecError, "^spec: the text is empty: a string is a path, the name"),
        (lambda: prunecast.load_spec("model: {source: x}"), SpecError, "no file 'model: {source: x}': a string is"),
        (lambda: prunecast.load_spec(SPEC, None), SpecError, "^overrides: must be a list of .* got None$"),
        (lambda: prunecast.load_spec(SPEC, "budget.parameters=0.8"), SpecError, r"write \['budget.parameters=0.8'\]$"),
        (lambda: prunecast.run(SPEC, progress=print), SpecError, "^progress: must be True or False, got an object"),
        (
            lambda: prunecast.run(SPEC, registry=None),
            RegistryError,
            "^registry: must be the path of a file.* got None$",
        ),
        (lambda: prunecast.plan(SPEC, registry=3), RegistryError, "^registry: must be .* of type int$"),
        (lambda: prunecast.predict("1x1+1"), RegistryError, r"no model has 1 layer; it holds: .*, 4 layers\)$"),
        (lambda: prunecast.load_spec(SPEC | {"seed": np.arange(2)}), SpecError, "^spec: seed: must be .* value.tolist"),
        (lambda: prunecast.load_spec(SPEC | {"budgte": {}}), SpecError, "^spec: budgte: unknown option"),
        (
            lambda: prunecast.load_spec(SPEC | {"evaluators": [{"use": "perplexity", "tokens": "x"}]}),
            SpecError,
            r"(?m)^spec: evaluators\.0\.tokens: must be a whole number",
        ),
    ],
)
def test_errors_equal_those_of_the_command_line(
    inside: Workplace, call: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_scalars_of_numpy_and_members_of_enums_are_their_values() -> None:
    word = StrEnum("word", {"NAME": "tiny"}).NAME
    given = SPEC | {"seed": np.int64(3), "name": word, "budget": {"parameters": np.float32(0.5)}}
    plain = SPEC | {"seed": 3, "name": "tiny", "budget": {"parameters": 0.5}}
    assert prunecast.load_spec(given).key == prunecast.load_spec(plain).key
    assert prunecast.load_spec(given).seed == 3


def test_one_line_in_braces_is_a_text() -> None:
    assert prunecast.load_spec(json.dumps(SPEC)).key == prunecast.load_spec(SPEC).key
    assert (
        prunecast.load_spec(" " + yaml.safe_dump(SPEC, default_flow_style=True, width=10**6)).key
        == prunecast.load_spec(SPEC).key
    )


def test_the_text_of_an_architecture_is_predicted_as_the_architecture(inside: Workplace) -> None:
    dense = prunecast.Architecture([(4, 2, 24)] * 4)
    assert prunecast.predict(str(dense)) == prunecast.predict(dense)


def test_a_registry_opens_by_its_constructor(inside: Workplace) -> None:
    with prunecast.Registry("registry.db", readonly=True) as registry:
        assert [record.name for record in registry.runs()] == ["tiny"]


def test_a_result_can_be_pickled(result: RunResult, tmp_path: Path) -> None:
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert again.export(tmp_path / "model").parameters == result.best.parameters


def test_a_lack_of_memory_is_a_prunecast_error(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("Cannot allocate memory")

    monkeypatch.setattr(Engine, "observe", no_memory)
    with chdir(workplace.folder), pytest.raises(PrunecastError, match="out of memory"):
        prunecast.run("tiny.yaml", progress=False)


def test_an_interrupted_run_can_be_continued(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, left = Engine.measure, [5]

    def interrupted(self: Engine, *arguments: Any) -> Any:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return measure(self, *arguments)

    with chdir(workplace.folder):
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "measure", interrupted)
            with pytest.raises(KeyboardInterrupt):
                prunecast.run("tiny.yaml", progress=False)
        with prunecast.Registry.open("registry.db", readonly=True) as registry:
            assert [run.status for run in registry.runs()] == ["interrupted"]
        result = prunecast.run(yaml.safe_load(Path("tiny.yaml").read_text()) | {"name": "tiny"}, progress=False)
    assert (result.measured, result.cached) == (EVALUATIONS - 5, 5)
