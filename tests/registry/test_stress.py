"""Many concurrent processes and hundreds of killed ones; slow, because rare losses need many repetitions."""

import os
import random
import time
from pathlib import Path

import pytest
from registry_samples import PPL, architecture, measurements, process, setting, start

from prunecast.registry.records import Evaluation
from prunecast.registry.store import Registry
from prunecast.registry.upkeep.verify import problems

PROCESSES, EACH, SHARED = 8, 5_000, 1_000
"""Every process writes so many evaluations, of which all write the first ones."""

ROUNDS, EVERY = 200, 50
"""So many writers are killed; each begins so many evaluations after the one before."""


def value_of(number: int) -> float:
    return 1.0 + number


def evaluation(number: int) -> Evaluation:
    return Evaluation(setting(), architecture(number), measurements(value_of(number)), 2.0, "cpu")


def numbers_of(writer: int) -> list[int]:
    own = EACH - SHARED
    numbers = [*range(SHARED), *range(SHARED + writer * own, SHARED + (writer + 1) * own)]
    random.Random(writer).shuffle(numbers)
    return numbers


def write_mixed(path: Path, writer: int) -> None:
    """Record the evaluations of a writer, partly one by one, partly in batches of up to 200."""
    rng, numbers = random.Random(writer), numbers_of(writer)
    with Registry.open(path) as registry:
        run = start(registry, f"{writer:032d}", f"writer {writer}")
        while numbers:
            size = rng.choice([1, 1, 1, 50, 200])
            registry.record_many(run, "pairs", [evaluation(number) for number in numbers[:size]])
            del numbers[:size]


@pytest.mark.slow
def test_eight_processes_of_5000_evaluations_lose_and_duplicate_none(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    writers = [process(write_mixed, path, writer) for writer in range(PROCESSES)]
    for each in writers:
        each.join()
    assert [each.exitcode for each in writers] == [0] * PROCESSES
    everything = sorted({number for writer in range(PROCESSES) for number in numbers_of(writer)})
    assert len(everything) == SHARED + PROCESSES * (EACH - SHARED)
    assert len({architecture(number) for number in everything}) == len(everything)
    with Registry.open(path, readonly=True) as registry:
        found = registry.lookup(setting(), [architecture(number) for number in everything])
        assert [numbers[PPL.name].value for numbers in found.values()] == [value_of(n) for n in everything]
        (counted,) = registry.rows("SELECT count(*) AS n FROM evaluations")
        assert counted["n"] == len(everything)
        used = {row["evaluations"] for row in registry.rows("SELECT evaluations FROM run_summary")}
        assert used == {EACH}
        assert list(problems(registry)) == []


def write_what_is_missing(path: Path, first: int, last: int, committed: Path) -> None:
    """Record the missing evaluations of a range, as a resumed run does, and log each after it is committed."""
    log = os.open(committed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Registry.open(path) as registry:
        run = start(registry)
        numbers = range(first, last)
        known = registry.lookup(setting(), [architecture(number) for number in numbers])
        for number in numbers:
            if architecture(number) not in known:
                registry.record_many(run, "pairs", [evaluation(number)])
                os.write(log, f"{number}\n".encode())


@pytest.mark.slow
def test_two_hundred_killed_writers_lose_only_the_pending_evaluation(tmp_path: Path) -> None:
    path, committed = tmp_path / "registry.db", tmp_path / "committed"
    committed.touch()
    rng, killed_while_writing = random.Random(0), 0
    for attempt in range(ROUNDS):
        first = attempt * EVERY
        before = committed.stat().st_size
        writer = process(write_what_is_missing, path, first, first + EVERY * 4, committed)
        if attempt % 4:  # the others are killed before they write, at the latest while they open the file
            while committed.stat().st_size == before and writer.is_alive():
                time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.03))
        writer.kill()
        writer.join()
        killed_while_writing += committed.stat().st_size > before
        if not path.exists():
            continue
        with Registry.open(path) as registry:
            (sound,) = registry.rows("PRAGMA integrity_check")
            assert sound["integrity_check"] == "ok"
            (counted,) = registry.rows("SELECT count(*) AS n FROM evaluations")
            kept = len(committed.read_text().split())
            assert kept <= counted["n"] <= kept + attempt + 1, "at most one in flight a kill"
    assert killed_while_writing > ROUNDS / 2, "most writers were killed before they wrote: this has shown little"
    write_what_is_missing(path, 0, ROUNDS * EVERY, committed)
    with Registry.open(path, readonly=True) as registry:
        found = registry.lookup(setting(), [architecture(number) for number in range(ROUNDS * EVERY)])
        assert [numbers[PPL.name].value for numbers in found.values()] == [value_of(n) for n in range(ROUNDS * EVERY)]
        assert list(problems(registry)) == []
