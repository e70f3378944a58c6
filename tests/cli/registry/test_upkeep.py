"""``prunecast registry verify | gc | vacuum | delete`` on the registry of a real run."""

import re
import sqlite3
from contextlib import chdir, closing

import pytest
from click.testing import CliRunner
from workplace import EVALUATIONS, SPEC, Outcome, Workplace

from prunecast.cli.main import cli


@pytest.fixture
def finished(workplace: Workplace) -> Workplace:
    """A workplace with one finished run."""
    assert workplace.prunecast("run", "tiny.yaml", "--quiet", "--set", "export=null").code == 0
    return workplace


def change(workplace: Workplace, statement: str) -> None:
    with closing(sqlite3.connect(workplace.registry)) as connection:
        connection.execute(statement)
        connection.commit()


def answer(workplace: Workplace, text: str, *arguments: str) -> Outcome:
    with chdir(workplace.folder):
        result = CliRunner().invoke(cli, arguments, input=text, standalone_mode=False)
    return Outcome(result.return_value, result.stdout, result.stderr)


def test_remeasuring_reproduces_the_recorded_numbers(finished: Workplace) -> None:
    before = finished.registry.read_bytes()
    outcome = finished.prunecast("registry", "verify", "--remeasure", "5", "--seed", "1")
    assert (outcome.code, outcome.stdout.splitlines()[-1]) == (0, "registry.db: no problems found")
    lines = outcome.stdout.splitlines()[:-1]
    assert len(lines) == 5
    for line in lines:
        again, recorded = re.findall(r"([\d.]+) (?:now|recorded)", line)
        assert again == recorded, "one machine, one dtype: equal to the last digit shown"
    assert finished.registry.read_bytes() == before
    others = finished.prunecast("registry", "verify", "--remeasure", "5", "--seed", "2").stdout
    assert others != outcome.stdout


def test_remeasuring_finds_a_changed_number(finished: Workplace) -> None:
    change(finished, "UPDATE metric_values SET value = value * 1.002 WHERE evaluation_id = 3")
    assert finished.prunecast("registry", "verify").code == 0
    outcome = finished.prunecast("registry", "verify", "--remeasure", str(EVALUATIONS))
    assert outcome.code == 1
    assert len(outcome.stdout.splitlines()) == EVALUATIONS
    (line,) = [line for line in outcome.stdout.splitlines() if line.startswith("beyond the tolerance: ")]
    assert "of evaluation 3: " in line
    assert outcome.stderr.splitlines()[-1].startswith("error: registry.db: problems: 1; ")


def test_a_run_whose_data_changed_cannot_be_repeated(finished: Workplace) -> None:
    (finished.folder / "validation.txt").write_text("another text, as long as need be. " * 200)
    outcome = finished.prunecast("registry", "verify", "--remeasure", str(EVALUATIONS))
    assert (outcome.code, outcome.stdout) == (1, "")
    assert re.search(
        r"run 1 \(tiny\) cannot be repeated: run 1 .* changed since: the data of perplexity dataset=valid",
        outcome.stderr,
    )


@pytest.mark.parametrize(
    ("run", "statement", "reason"),
    [
        (2, "UPDATE runs SET spec_json = replace(spec_json, '192', '256') WHERE id = 2", "cannot be repeated"),
        (
            1,
            "UPDATE runs SET spec_json = json_set(spec_json, '$.model.trust_remote_code', json('true')) WHERE id = 1",
            "names code, which no record may execute by itself: trust_remote_code: true",
        ),
    ],
)
def test_runs_that_cannot_be_repeated_are_left_out_and_told_after_the_numbers_of_the_others(
    finished: Workplace, run: int, statement: str, reason: str
) -> None:
    finished.write_spec("other", {"evaluators": [{**SPEC["evaluators"][0], "tokens": 192}], "export": None})
    assert finished.prunecast("run", "other.yaml", "--quiet").code == 0
    counts = dict(finished.sql("SELECT run_id, count(*) FROM evaluations GROUP BY run_id"))
    change(finished, statement)
    outcome = finished.prunecast("registry", "verify", "--remeasure", "1000", "--json")
    told = outcome.json
    assert (outcome.code, len(told["measured_again"]), told["problems"]) == (1, counts[3 - run], [])
    (line,) = told["left_out"]
    assert line.startswith(f"run {run} ({['tiny', 'other'][run - 1]}) cannot be repeated: ")
    assert reason in line
    assert line.endswith(f"({counts[run]} evaluations left out)")
    assert outcome.stderr.splitlines()[-1] == f"error: registry.db: {line}"


def test_remeasuring_includes_uncompensated_baselines_and_skips_recovered_models(workplace: Workplace) -> None:
    calibration = {"dataset": "calibration.txt", "samples": 4, "tokens": 32}
    changes = {
        "pruner": SPEC["pruner"] | {"compensate": {"method": "least-squares", "calibration": [calibration]}},
        "baselines": ["uniform-mlp", "uniform-mlp-uncompensated"],
        "recover": {"method": "distill", "dtype": "float32", "dataset": "calibration.txt", "samples": 8, "tokens": 64},
        "export": None,
    }
    workplace.write_spec("compensated", changes)
    assert workplace.prunecast("run", "compensated.yaml", "--quiet").code == 0
    ((kinds, count),) = workplace.sql("SELECT count(DISTINCT setting_id), count(*) FROM evaluations")
    assert kinds == 6  # two evaluators, each with compensation, without, and after recovery
    outcome = workplace.prunecast("registry", "verify", "--remeasure", "1000")
    assert (outcome.code, outcome.stdout.splitlines()[-1]) == (0, "registry.db: no problems found")
    lines = outcome.stdout.splitlines()[:-1]
    assert len(lines) == count - 2
    for line in lines:
        again, recorded = re.findall(r"([\d.]+) (?:now|recorded)", line)
        assert again == recorded


def test_damage_is_listed_with_exit_code_1(finished: Workplace) -> None:
    change(finished, "UPDATE architectures SET depth = 9 WHERE id = 2")
    outcome = finished.prunecast("registry", "verify")
    assert (outcome.code, outcome.stdout) == (1, "architectures: key or depth of 2 is not that of its layers\n")
    as_json = finished.prunecast("registry", "verify", "--json")
    assert (as_json.code, as_json.json["problems"]) == (1, [outcome.stdout.strip()])


def test_deleting_asks_for_confirmation(finished: Workplace) -> None:
    refused = answer(finished, "n\n", "registry", "delete", "tiny")
    assert refused.code == 0
    assert re.search(r"Delete run 1 \(tiny, finished, started .*Z\) from registry.db\? \[y/N\]", refused.stderr)
    assert finished.sql("SELECT count(*) FROM runs") == [(1,)]
    agreed = answer(finished, "y\n", "registry", "delete", "tiny")
    assert "deleted run 1 (tiny, finished" in agreed.stdout
    assert finished.sql("SELECT count(*), (SELECT count(*) FROM runs) FROM evaluations") == [(EVALUATIONS, 0)]
    outcome = finished.prunecast("run", "tiny.yaml", "--json", "--quiet", "--set", "export=null")
    assert outcome.json["evaluations"] == {"measured": 0, "cached": EVALUATIONS}


def test_gc_and_vacuum_shrink_a_registry_whose_run_was_deleted(finished: Workplace) -> None:
    deleted = finished.prunecast("registry", "delete", "1", "--with-evaluations", "--yes")
    assert f"and {EVALUATIONS} evaluations" in deleted.stdout
    removed = finished.prunecast("registry", "gc", "--json").json
    assert removed["architectures"] > 0
    assert finished.sql("SELECT count(*) FROM architectures") == [(0,)]
    assert finished.prunecast("registry", "gc").stdout == "nothing to remove\n"
    shrunk = finished.prunecast("registry", "vacuum", "--json").json
    assert shrunk["bytes_after"] < shrunk["bytes_before"]
    assert finished.prunecast("registry", "verify").stdout == "registry.db: no problems found\n"
