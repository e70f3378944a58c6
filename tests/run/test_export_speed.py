"""Exports of a run that measures speed: the dense model is timed in the same engine, and the ratio is told."""

import json
from pathlib import Path

import pytest
from workplace import SPEC, Workplace

from prunecast.errors import EngineMissingError, ExportError
from prunecast.export.deliver import DenseSpeed
from prunecast.plugins.examples.exporter import Program, ProgramOptions
from prunecast.plugins.exporter import Parity, PrunedModel, Written
from prunecast.registry import Registry
from prunecast.report.exports import section
from prunecast.report.facts import Facts
from prunecast.testing.exporters import case

LATENCY = {"use": "latency", "device": "cpu", "prompt": 8, "generate": 4, "repeats": 1}
TIMED = {
    **{"collect": {"pairs": 4}, "rounds": 1, "per_round": 1, "baselines": ["uniform-mlp"]},
    "verify": {"top": 1, "evaluators": [*SPEC["verify"]["evaluators"], LATENCY]},
}
COUNTED = """
from dataclasses import replace

from prunecast.plugins import Entry, hookimpl
from prunecast.plugins.examples.exporter import Program


class Counted(Program):
    '''Programs that, it says, read a million tokens a second divided by their parameters, and generate a tenth.'''

    def verify(self, model, folder, reference):
        parity = super().verify(model, folder, reference)
        speed = 1e6 / sum(tensor.numel() for tensor in model.state.values())
        return replace(parity, prefill=speed, decode=speed / 10)


@hookimpl
def prunecast_exporters():
    return [Entry("counted", f"{__name__}:Counted", "Programs with speeds")]
"""


@pytest.fixture
def plugin(workplace: Workplace) -> Path:
    file = workplace.folder / "counted.py"
    file.write_text(COUNTED)
    return file


@pytest.mark.slow
def test_the_dense_model_is_written_and_loaded_by_the_same_exporter(workplace: Workplace, plugin: Path) -> None:
    workplace.write_spec("timed", TIMED | {"export": {"path": "out/timed", "targets": ["counted"]}})
    outcome = workplace.prunecast("run", "timed.yaml", "--json", "--plugin-dir", "counted.py")
    assert outcome.code == 0, outcome.stderr
    result = outcome.json
    parity = result["exports"][0]["parity"]
    # Tied embeddings are in the state twice.
    tied = 98 * 64
    dense, best = (1e6 / (result[name]["parameters"] + tied) for name in ("dense", "best"))
    assert (parity["dense_prefill"], parity["dense_decode"]) == pytest.approx((dense, dense / 10))
    assert (parity["prefill"], parity["decode"]) == pytest.approx((best, best / 10))
    ratio = f"{best / dense:.2f}"
    note = f"reads {ratio} and generates {ratio} times as many tokens a second as the dense model in the same engine"
    assert best / dense > 1.1
    assert note in parity["notes"]
    assert note in (workplace.folder / "out/timed/README.md").read_text()
    assert f"counted: {note}" in workplace.prunecast("runs", "show", "1").stdout
    with Registry.open(workplace.registry, readonly=True) as registry:
        assert f"counted: {note}" in section(Facts(registry, registry.run(1))).text
    kept = json.loads((workplace.folder / "out/timed/prunecast_export.json").read_text())["facts"]["parity"]
    assert {kept[name] for name in ("prefill", "decode", "dense_prefill", "dense_decode")} == {None}
    again = workplace.prunecast("export", "1", "again", "--plugin-dir", "counted.py", "--json").json
    assert (again["parity"]["dense_prefill"], note in again["parity"]["notes"]) == (pytest.approx(dense), True)


@pytest.mark.slow
def test_an_export_for_transformers_is_timed_beside_the_dense_model(workplace: Workplace) -> None:
    workplace.write_spec("timed", TIMED)
    result = workplace.prunecast("run", "timed.yaml", "--json").json
    parity = result["export"]["parity"]
    assert all(parity[name] > 0 for name in ("prefill", "decode", "dense_prefill", "dense_decode"))
    reads = parity["prefill"] / parity["dense_prefill"]
    generates = parity["decode"] / parity["dense_decode"]
    assert parity["notes"][-1].startswith(f"reads {reads:.2f} and generates {generates:.2f} times as many tokens")
    assert {name.rpartition(".")[2] for name in result["best"]["metrics"]} > {"prefill_tokens_per_second"}


def test_a_run_that_measures_no_speed_leaves_the_dense_model_alone(workplace: Workplace) -> None:
    plain = {name: value for name, value in TIMED.items() if name != "verify"}
    workplace.write_spec("plain", plain)
    parity = workplace.prunecast("run", "plain.yaml", "--json").json["export"]["parity"]
    assert parity["prefill"] > 0
    assert (parity["dense_prefill"], parity["notes"]) == (None, [])


PARITY = Parity("engine", "logits", 0.0, prefill=30.0, decode=6.0, notes=("odd",))


@pytest.mark.parametrize(
    ("dense", "told"),
    [
        (DenseSpeed(20.0, 8.0), "reads 1.50 and generates 0.75 times as many tokens a second as the dense model"),
        (DenseSpeed(20.0, None), "reads 1.50 times as many tokens a second as the dense model in the same engine"),
        (DenseSpeed(problem="disk full"), "not compared with the speed of the dense model: disk full"),
    ],
)
def test_what_is_known_of_the_dense_model_is_told(dense: DenseSpeed, told: str) -> None:
    beside = dense.beside(PARITY)
    assert beside.notes[0] == "odd"
    assert beside.notes[1].startswith(told)
    assert (beside.dense_prefill, beside.dense_decode) == (dense.prefill, dense.decode)


def test_an_engine_that_tells_no_speed_has_no_note() -> None:
    assert DenseSpeed().beside(PARITY) == PARITY


class Refusing(Program):
    """Writes nothing."""

    reason: Exception

    def write(self, model: PrunedModel, folder: Path) -> Written:
        raise self.reason


@pytest.mark.parametrize("error", [ExportError("too wide"), EngineMissingError("not here"), OSError("disk full")])
def test_a_dense_model_that_cannot_be_written_is_no_reason_to_fail(error: Exception) -> None:
    subject, exporter = case(), Refusing(ProgramOptions())
    exporter.reason = error
    assert DenseSpeed.of(exporter, subject.model, subject.reference) == DenseSpeed(problem=str(error))
