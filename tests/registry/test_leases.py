"""Leases: of several processes that need the same evaluation, one measures it."""

import os
import signal
import time
from pathlib import Path

import pytest
from registry_samples import architecture, measurements, process, setting, start

from prunecast.architecture.architecture import Architecture
from prunecast.registry import Setting
from prunecast.registry.leases import Leases
from prunecast.registry.store import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry.db")


def take(registry: Registry, wanted: Setting, measured: Architecture) -> bool:
    """True if a process of its own would get the lease."""
    return Leases(registry).take([(wanted, measured)]) == [True]


def leases(registry: Registry) -> int:
    return int(next(registry.rows("SELECT count(*) AS n FROM leases"))["n"])


def hold(path: Path, seconds: float, taken: Path) -> None:
    with Registry.open(path) as registry, Leases(registry, seconds) as leases:
        assert leases.take([(setting(), architecture(1))]) == [True]
        taken.touch()
        time.sleep(60)


@pytest.fixture
def holder(registry: Registry, tmp_path: Path):  # type: ignore[no-untyped-def]
    """A process that holds and renews a lease of one second on the first architecture."""
    taken = tmp_path / "taken"
    child = process(hold, registry.path, 1.0, taken)
    while not taken.exists():
        time.sleep(0.01)
    yield child
    child.kill()
    child.join()


def test_only_the_leased_evaluation_is_refused_to_others(registry: Registry) -> None:
    assert take(registry, setting(), architecture(1))
    assert not take(registry, setting(), architecture(1))
    assert take(registry, setting(), architecture(2))
    assert take(registry, setting(dtype="bfloat16"), architecture(1))


def test_recording_the_evaluation_or_its_failure_ends_the_lease(registry: Registry) -> None:
    run = start(registry)
    take(registry, setting(), architecture(1))
    registry.record(run, "pairs", setting(), architecture(1), measurements(30.0), 1.0, "cpu")
    assert leases(registry) == 0
    assert not take(registry, setting(), architecture(1)), "it has been measured"
    take(registry, setting(), architecture(2))
    registry.record_failure(run, setting(), architecture(2), "out of memory")
    assert take(registry, setting(), architecture(2))


def _take_and_raise(held: Leases) -> None:
    held.take([(setting(), architecture(1))])
    raise KeyboardInterrupt


def test_an_interrupted_holder_releases_its_lease(registry: Registry) -> None:
    with pytest.raises(KeyboardInterrupt), Leases(registry) as held:
        _take_and_raise(held)
    assert take(registry, setting(), architecture(1))


def test_of_several_evaluations_those_that_are_free_are_taken(registry: Registry) -> None:
    registry.record(start(registry), "pairs", setting(), architecture(1), measurements(30.0), 1.0, "cpu")
    wanted = [(setting(), architecture(count)) for count in (1, 2, 2, 3)]
    assert Leases(registry).take(wanted) == [False, True, False, True]


def test_a_lease_is_renewed_while_its_holder_works(registry: Registry, holder) -> None:  # type: ignore[no-untyped-def]
    for _ in range(5):
        time.sleep(0.5)
        assert not take(registry, setting(), architecture(1))


def test_the_lease_of_a_killed_local_process_ends_at_once(registry: Registry, holder) -> None:  # type: ignore[no-untyped-def]
    os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 0.9
    while not take(registry, setting(), architecture(1)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_unrenewed_lease_of_another_machine_expires(registry: Registry) -> None:
    assert Leases(registry, seconds=1.0).take([(setting(), architecture(1))]) == [True]
    with registry.transaction() as connection:
        connection.execute("UPDATE leases SET holder = 'elsewhere:1:x'")
    assert not take(registry, setting(), architecture(1))
    time.sleep(2.1)
    assert take(registry, setting(), architecture(1))
