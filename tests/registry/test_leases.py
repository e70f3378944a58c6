"""Leases: of several processes that need the same evaluation, one measures it."""

import os
import signal
import time
from pathlib import Path

import pytest
from registry_samples import architecture, measurements, process, setting, start

from prunecast.registry.leases import take_lease
from prunecast.registry.store import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry.db")


def leases(registry: Registry) -> int:
    return int(next(registry.rows("SELECT count(*) AS n FROM leases"))["n"])


def hold(path: Path, seconds: float, taken: Path) -> None:
    with Registry.open(path) as registry:
        lease = take_lease(registry, setting(), architecture(1), seconds)
        assert lease is not None
        with lease:
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
    assert take_lease(registry, setting(), architecture(1)) is not None
    assert take_lease(registry, setting(), architecture(1)) is None
    assert take_lease(registry, setting(), architecture(2)) is not None
    assert take_lease(registry, setting(dtype="bfloat16"), architecture(1)) is not None


def test_recording_the_evaluation_or_its_failure_ends_the_lease(registry: Registry) -> None:
    run = start(registry)
    take_lease(registry, setting(), architecture(1))
    registry.record(run, "pairs", setting(), architecture(1), measurements(30.0), 1.0, "cpu")
    assert leases(registry) == 0
    assert take_lease(registry, setting(), architecture(1)) is None, "it has been measured"
    take_lease(registry, setting(), architecture(2))
    registry.record_failure(run, setting(), architecture(2), "out of memory")
    assert take_lease(registry, setting(), architecture(2)) is not None


def test_an_interrupted_holder_releases_its_lease(registry: Registry) -> None:
    lease = take_lease(registry, setting(), architecture(1))
    assert lease is not None
    with pytest.raises(KeyboardInterrupt), lease:
        raise KeyboardInterrupt
    assert take_lease(registry, setting(), architecture(1)) is not None


def test_a_lease_is_renewed_while_its_holder_works(registry: Registry, holder) -> None:  # type: ignore[no-untyped-def]
    for _ in range(5):
        time.sleep(0.5)
        assert take_lease(registry, setting(), architecture(1)) is None


def test_the_lease_of_a_killed_local_process_ends_at_once(registry: Registry, holder) -> None:  # type: ignore[no-untyped-def]
    os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 0.9
    while take_lease(registry, setting(), architecture(1)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_unrenewed_lease_of_another_machine_expires(registry: Registry) -> None:
    lease = take_lease(registry, setting(), architecture(1), seconds=1.0)
    assert lease is not None
    with registry.transaction() as connection:
        connection.execute("UPDATE leases SET holder = 'elsewhere:1:x'")
    assert take_lease(registry, setting(), architecture(1)) is None
    time.sleep(2.1)
    assert take_lease(registry, setting(), architecture(1)) is not None
