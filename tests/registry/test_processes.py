"""Concurrent processes, killed processes and full disks lose no recorded evaluation."""

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from registry_samples import PPL, architecture, measurements, process, setting, start, write

from prunecast.errors import RegistryError
from prunecast.registry.store import Registry


def values(path: Path, numbers: range) -> dict[int, float]:
    with Registry.open(path, readonly=True) as registry:
        found = registry.lookup(setting(), [architecture(number) for number in numbers])
    return {n: found[architecture(n)][PPL.name].value for n in numbers if architecture(n) in found}


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_two_processes_recording_the_same_evaluations_make_no_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    writers = [process(write, path, range(100), ppl) for ppl in (1000.0, 2000.0)]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    found = values(path, range(100))
    assert list(found) == list(range(100))
    assert all(value - number in (1000.0, 2000.0) for number, value in found.items())
    assert (count(path, "evaluations"), count(path, "metric_values"), count(path, "run_evaluations")) == (100, 200, 100)
    assert_sound(path)


def test_four_processes_lose_and_duplicate_nothing(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    writers = [process(write, path, range(first, first + 100), 1.0) for first in range(0, 400, 100)]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert values(path, range(400)) == {number: 1.0 + number for number in range(400)}
    assert (count(path, "evaluations"), count(path, "runs"), count(path, "settings")) == (400, 1, 1)
    assert_sound(path)


def open_and_close(path: Path) -> None:
    Registry.open(path).close()


def test_processes_can_create_one_registry_at_the_same_time(tmp_path: Path) -> None:
    for attempt in range(10):
        path = tmp_path / f"{attempt}.db"
        openers = [process(open_and_close, path) for _ in range(6)]
        for opener in openers:
            opener.join()
        assert [opener.exitcode for opener in openers] == [0] * 6
        assert_sound(path)


def test_kill_9_loses_nothing_committed(tmp_path: Path) -> None:
    path, committed = tmp_path / "registry.db", tmp_path / "committed"
    committed.touch()
    rng = random.Random(0)
    for attempt in range(20):
        first = attempt * 500
        writer = process(write, path, range(first, first + 500), 1.0, committed)
        time.sleep(rng.uniform(0.0, 0.12))
        writer.kill()
        writer.join()
        kept = [int(line) for line in committed.read_text().splitlines()]
        if not path.exists():
            continue
        Registry.open(path).close()
        assert_sound(path)
        found = values(path, range(first + 500))
        assert set(kept) <= set(found)
        assert len(found) <= len(kept) + attempt + 1
        assert count(path, "metric_values") == 2 * len(found)
    assert kept, "every writer was killed before its first evaluation: the test has shown nothing"


def record_until_refused(registry: Registry, run: int) -> tuple[int, str]:
    for number in range(10_000):
        try:
            registry.record(run, "sample", setting(), architecture(number), measurements(31.5), 1.0, "cpu")
        except RegistryError as error:
            return number, str(error)
    raise AssertionError("the disk never filled up")


def test_a_full_disk_is_one_line_and_loses_only_the_pending_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry:
        run = start(registry)
        pages = next(registry.rows("PRAGMA page_count"))["page_count"]
        registry.database.conn.execute(f"PRAGMA max_page_count = {pages + 8}")
        number, message = record_until_refused(registry, run)
        assert message.startswith(f"{path}: the disk is full; free some space, then run again")
        assert "\n" not in message
        assert number > 10
        registry.database.conn.execute("PRAGMA max_page_count = 100000")
        registry.record(run, "sample", setting(), architecture(number), measurements(31.5), 1.0, "cpu")
    assert list(values(path, range(number + 10))) == list(range(number + 1))
    assert_sound(path)


def test_a_reader_sees_the_commits_of_an_open_writer(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with Registry.open(path) as writer, Registry.open(path, readonly=True) as reader:
        writer.record(start(writer), "sample", setting(), architecture(1), measurements(31.5), 1.0, "cpu")
        assert reader.lookup(setting(), [architecture(1)])


def test_a_lock_that_is_never_released_is_a_one_line_error(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with Registry.open(path) as registry, closing(sqlite3.connect(path, isolation_level=None)) as other:
        registry.database.conn.execute("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match="another process"):
            start(registry)
        other.execute("ROLLBACK")
        start(registry)


def test_use_from_another_thread_is_refused(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Registry.open(tmp_path / "registry.db") as registry, ThreadPoolExecutor() as pool:
        elsewhere = pool.submit(registry.runs)
        with pytest.raises(sqlite3.ProgrammingError):
            elsewhere.result()
