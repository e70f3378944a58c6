"""Merging, files and publishing: records survive the round trip, are never duplicated, and merge in any order."""

import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import RELEASED_REGISTRIES
from registry_samples import PPL, architecture, measurements, process, setting, start

from prunecast.architecture.architecture import Layer
from prunecast.errors import RegistryError
from prunecast.registry.records import PluginRecord
from prunecast.registry.sharing.files import read_records, write_records
from prunecast.registry.sharing.merge import merge
from prunecast.registry.sharing.publish import publish, pull
from prunecast.registry.sharing.records import absorb, records_of
from prunecast.registry.store import Registry
from prunecast.registry.upkeep.verify import problems

SETTINGS = (
    setting(),
    setting(dtype="bfloat16"),
    setting(pruner=PluginRecord("größe", 2, {"a": [1, {"b": 0.1}]}, None, "other 1.0")),
    setting(pruner=PluginRecord("mine", 1, {}, None, "mine.py", "1" * 32)),
    setting(pruner=PluginRecord("mine", 1, {}, None, "mine.py", "2" * 32)),
)

Contents = dict[tuple[int, int], float]
contents = st.dictionaries(
    st.tuples(st.integers(0, len(SETTINGS) - 1), st.integers(0, 5)),
    st.floats(1, 1e6, allow_subnormal=False),
    max_size=6,
)


@contextmanager
def filled(numbers: Contents, run: str = "a" * 32) -> Iterator[Registry]:
    """A registry in its own folder with these perplexities, by number of setting and of architecture."""
    with tempfile.TemporaryDirectory() as folder, Registry.open(Path(folder) / "registry.db") as registry:
        if numbers:
            fill(registry, numbers, run)
        yield registry


def fill(registry: Registry, numbers: Contents, run: str = "a" * 32) -> None:
    run_id = start(registry, run, f"run {run[0]}")
    for (under, number), ppl in numbers.items():
        registry.record(run_id, "pairs", SETTINGS[under], architecture(number), measurements(ppl), 1.5, "cpu")


def held(registry: Registry) -> list[str]:
    """All records of a registry, without ids and independent of order."""
    records = [dict(record) for record in records_of(registry)]
    for record in records:
        if "uses_json" in record:
            record["uses_json"] = sorted(json.loads(record["uses_json"]))
    return sorted(json.dumps(record, sort_keys=True) for record in records)


@settings(max_examples=20, deadline=None)
@given(contents, contents)
def test_merging_is_idempotent_and_symmetric(first: Contents, second: Contents) -> None:
    agreed = {**second, **{key: value for key, value in first.items() if key in second}}
    with filled(first) as left, filled(agreed, "b" * 32) as right, filled({}) as both:
        before = held(right)
        report = merge(both, left.path)
        assert (report.evaluations, report.conflicts) == (len(first), [])
        merge(both, right.path)
        assert held(right) == before
        once = held(both)
        again = merge(both, right.path)
        assert (again.evaluations, again.runs, again.known) == (0, 0, len(agreed))
        assert held(both) == once
        merge(left, right.path)
        merge(right, left.path)
        assert values(left) == values(right) == {**agreed, **first}


def values(registry: Registry) -> Contents:
    """Perplexities of the registry, as passed to :func:`filled`."""
    return {
        (under, number): found[PPL.name].value
        for under in range(len(SETTINGS))
        for number in range(6)
        for found in registry.lookup(SETTINGS[under], [architecture(number)]).values()
    }


@settings(max_examples=10, deadline=None)
@given(contents, st.sampled_from([".jsonl", ".parquet"]))
def test_exported_records_are_imported_unchanged(numbers: Contents, suffix: str) -> None:
    with filled(numbers) as registry, filled({}) as other:
        path = registry.path.with_suffix(suffix)
        assert write_records(records_of(registry), path) == len(numbers) + bool(numbers)
        absorb(other, read_records(path))
        assert held(other) == held(registry)
        assert next(other.rows("PRAGMA foreign_key_check"), None) is None
        absorb(other, read_records(path))
        assert held(other) == held(registry)


def test_differences_beyond_the_standard_error_are_conflicts_and_ours_stay() -> None:
    with filled({(0, 1): 30.0, (0, 2): 40.0}) as ours, filled({(0, 1): 30.4, (0, 2): 40.6}) as theirs:
        report = merge(ours, theirs.path)
        (conflict, accuracy, other_accuracy) = sorted(report.conflicts, key=lambda each: -each.ours)
        assert (conflict.ours, conflict.theirs, conflict.standard_error) == (40.0, 40.6, 0.5)
        assert conflict.architecture == str(architecture(2))
        assert {accuracy.standard_error, other_accuracy.standard_error} == {0.0}
        assert values(ours) == {(0, 1): 30.0, (0, 2): 40.0}
        assert merge(ours, theirs.path, theirs=True).replaced == 2
        assert values(ours) == {(0, 1): 30.4, (0, 2): 40.6}
        assert merge(ours, theirs.path).conflicts == []


def test_replaced_numbers_keep_their_provenance() -> None:
    with filled({(0, 1): 30.0, (0, 2): 40.0}) as ours, filled({(0, 1): 35.0}, "b" * 32) as theirs:
        with theirs.transaction() as connection:
            connection.execute("UPDATE provenances SET device = 'cuda:0', torch = '9.9'")
            connection.execute("UPDATE evaluations SET seconds = 3.5, measured_utc = '2031-01-31T12:00:00Z'")
        merge(ours, theirs.path, theirs=True)
        (taken,) = [record for record in records_of(theirs) if record["type"] == "evaluation"]
        found = [record for record in records_of(ours) if record["type"] == "evaluation"]
        told = ("metrics", "device", "torch", "seconds", "measured_utc", "run_key")
        assert [
            [record[name] for name in told] for record in found if record["architecture"] == taken["architecture"]
        ] == [[taken[name] for name in told]]
        assert {record["device"] for record in found} == {"cpu", "cuda:0"}
        assert list(problems(ours)) == []


@pytest.mark.parametrize("way", ["merge", ".jsonl", ".parquet"])
def test_evaluations_of_different_local_code_stay_separate(way: str) -> None:
    with filled({(3, 1): 30.0}) as theirs, filled({(4, 1): 40.0}) as ours:
        if way == "merge":
            report = merge(ours, theirs.path)
        else:
            write_records(records_of(theirs), theirs.path.with_suffix(way))
            report = absorb(ours, read_records(theirs.path.with_suffix(way)))
        assert (report.evaluations, report.conflicts) == (1, [])
        assert values(ours) == {(3, 1): 30.0, (4, 1): 40.0}
        assert list(problems(ours)) == []


def test_runs_are_merged_with_their_evaluations() -> None:
    with filled({(0, 1): 30.0, (1, 1): 31.0}, "c" * 32) as theirs, filled({(0, 1): 30.0}) as ours:
        theirs.finish_run(1, "finished", {"best": 1})
        merge(ours, theirs.path)
        run = ours.run("run c")
        assert (run.status, run.result) == ("finished", {"best": 1})
        (counts,) = ours.rows("SELECT evaluations, measured FROM run_summary WHERE run_id = ?", (run.id,))
        assert counts == {"evaluations": 2, "measured": 1}


@pytest.mark.parametrize("ours", ["running", "interrupted", "failed", "finished"])
@pytest.mark.parametrize("theirs", ["running", "interrupted", "failed", "finished"])
def test_a_run_finished_in_one_registry_is_finished_after_merging(ours: str, theirs: str) -> None:
    with filled({(0, 1): 30.0}) as here, filled({(0, 2): 31.0}) as there:
        for registry, status in ((here, ours), (there, theirs)):
            if status != "running":
                result = {"of": registry.path.parent.name} if status == "finished" else None
                registry.finish_run(1, status, result, f"{status} {registry.path.parent.name}")  # type: ignore[arg-type]
        taken = theirs == "finished" != ours
        expected = (there if taken else here).run(1)
        assert [merge(here, there.path).runs, merge(here, there.path).runs] == [int(taken), 0]
        assert here.run(1) == expected
        assert len(values(here)) == 2


STEPS = {(1, Layer(2, 1, 8)): (0.25, 0.5), (0, Layer(0, 0, 16)): (-1e-9, 3.0)}


@contextmanager
def with_steps() -> Iterator[Registry]:
    """A registry with the local sensitivities of one architecture."""
    with filled({(0, 1): 30.0}, "c" * 32) as registry:
        registry.record_steps(1, SETTINGS[0], architecture(1), 1, STEPS, 2.5)
        yield registry


@pytest.mark.parametrize("way", ["merge", "jsonl", "parquet", "publish"])
def test_local_sensitivities_are_merged_and_ours_stay(way: str, tmp_path: Path) -> None:
    def take(ours: Registry, theirs: Registry) -> int:
        if way == "merge":
            return merge(ours, theirs.path).steps
        if way == "publish":
            publish(theirs, str(tmp_path / "shared"))
            return pull(ours, str(tmp_path / "shared")).steps
        write_records(records_of(theirs), tmp_path / f"all.{way}")
        return absorb(ours, read_records(tmp_path / f"all.{way}")).steps

    with with_steps() as theirs, filled({}) as ours:
        assert [take(ours, theirs), take(ours, theirs)] == [1, 0]
        assert ours.steps(SETTINGS[0], architecture(1), 1) == STEPS
        assert held(ours) == held(theirs)
        other = dict.fromkeys(STEPS, (0.0, 0.0))
        theirs.record_steps(1, SETTINGS[0], architecture(1), 1, other, 2.5)
        assert take(ours, theirs) == 0
        assert ours.steps(SETTINGS[0], architecture(1), 1) == STEPS
        theirs.record_steps(1, SETTINGS[0], architecture(1), 2, other, 2.5)
        assert [take(ours, theirs), take(ours, theirs)] == [1, 0]
        assert ours.steps(SETTINGS[0], architecture(1), 2) == other
        theirs.record_steps(1, SETTINGS[0], architecture(1), 1, STEPS, 2.5)
        assert take(ours, theirs) == 0
        assert ours.steps(SETTINGS[0], architecture(1), 2) == other


def test_records_without_code_hashes_and_versions_are_imported() -> None:
    with with_steps() as theirs, filled({}) as ours:
        later = ("pruner_code_hash", "evaluator_code_hash", "version")
        absorb(ours, ({name: of for name, of in row.items() if name not in later} for row in records_of(theirs)))
        assert ours.steps(SETTINGS[0], architecture(1), 1) == STEPS
        assert held(ours) == held(theirs)


@pytest.mark.parametrize("damage", [{"changes_json": "[[1, 2]]"}, {"changes_json": "no"}, {"seconds": "long"}])
def test_damaged_local_sensitivities_are_refused(damage: dict[str, str]) -> None:
    with with_steps() as theirs, filled({}) as ours:
        records = [record | damage if record["type"] == "steps" else record for record in records_of(theirs)]
        with pytest.raises(RegistryError, match="a record of steps is damaged"):
            absorb(ours, records)


def test_a_registry_of_the_first_release_is_merged_and_not_changed(tmp_path: Path) -> None:
    old = RELEASED_REGISTRIES / "v1.db"
    before = old.read_bytes()
    with Registry.open(tmp_path / "registry.db") as registry:
        assert merge(registry, old).evaluations == 2
    assert old.read_bytes() == before


def test_the_write_ahead_log_of_an_old_registry_is_merged(tmp_path: Path) -> None:
    old = Path(shutil.copy(RELEASED_REGISTRIES / "v6.db", tmp_path))
    before = old.read_bytes()
    writer = process(be_killed_writing, old)
    writer.join()
    log = old.with_name("v6.db-wal").read_bytes()
    assert (writer.exitcode, old.read_bytes()[100:]) == (-signal.SIGKILL, before[100:]), "all of it is in the log"
    with Registry.open(tmp_path / "registry.db") as registry:
        assert merge(registry, old).runs == 1
        assert registry.run("a" * 32).name == "written last"
    assert old.with_name("v6.db-wal").read_bytes() == log


def be_killed_writing(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("UPDATE runs SET name = 'written last'")
    connection.commit()
    os.kill(os.getpid(), signal.SIGKILL)


def test_publishing_to_a_folder_keeps_earlier_publications(tmp_path: Path) -> None:
    folder = str(tmp_path / "shared")
    with filled({(0, 1): 30.0}) as first, filled({(0, 2): 40.0}, "b" * 32) as second, filled({}) as third:
        assert publish(first, folder) == folder
        publish(second, folder)
        assert pull(third, folder).evaluations == 2
        assert values(third) == {(0, 1): 30.0, (0, 2): 40.0}
        assert pull(third, folder).evaluations == 0
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "2 evaluations of pruned architectures of tiny" in card
    assert card.startswith("---\ntags: [prunecast")


def test_an_unavailable_data_set_is_a_one_line_error(tmp_path: Path) -> None:
    with filled({}) as registry:
        for source, message in (("nobody/nothing", "data set nobody/nothing: "), (str(tmp_path), "has no evaluations")):
            with pytest.raises(RegistryError, match=message) as refused:
                pull(registry, source)
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "{", "a.jsonl:1: is no JSON"),
        ("a.jsonl", "[]\n", "a.jsonl:1: is no JSON object"),
        ("a.jsonl", '{"type": "\u00e9"}', "a.jsonl:1: is no UTF-8 text"),
        ("a.jsonl", '{"type": "evaluation"}', "record of an evaluation is damaged: KeyError 'pruner'"),
        ("a.jsonl", '{"type": "run"}', "a record of a run has no 'key'"),
        ("a.jsonl", '{"type": "joke"}', "type 'joke', not one of run, evaluation, steps"),
        ("a.parquet", "no table", "is no Parquet file"),
        ("a.csv", "", "name a file that ends in .jsonl or .parquet"),
    ],
)
def test_an_invalid_file_is_a_one_line_error_and_imports_nothing(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with filled({}) as registry:
        before = held(registry)
        with pytest.raises(RegistryError, match=message) as refused:
            absorb(registry, read_records(tmp_path / name))
        assert "\n" not in str(refused.value)
        assert held(registry) == before


def test_a_record_with_a_non_finite_value_is_refused(tmp_path: Path) -> None:
    with filled({(0, 1): 30.0}) as registry, filled({}) as other:
        (run, record) = records_of(registry)
        record["metrics"][0]["value"] = float("nan")
        with pytest.raises(RegistryError, match="not a finite number"):
            absorb(other, [run, record])
        assert values(other) == {}


def test_merging_a_registry_into_itself_is_refused() -> None:
    with filled({}) as registry, pytest.raises(RegistryError, match="is the registry it would be merged into"):
        merge(registry, registry.path)
