"""The status of a run: running only while a process is at it."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from registry_samples import process

from prunecast.registry.holders import LEASE_SECONDS, has_ended, holds, this_process
from prunecast.registry.leases import running
from prunecast.registry.records import utc_text
from prunecast.registry.sharing.merge import merge
from prunecast.registry.store import Registry

KEY = "a" * 32


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry.db")


def execute(path: Path, started: Path, ends: bool = False) -> None:
    """Be at a run for a minute; ``ends`` records that it was interrupted when asked to."""
    with Registry.open(path) as registry:
        run = registry.start_run(KEY, "long", "{}", "").id
        with running(registry, run):
            started.touch()
            if not ends:
                time.sleep(60)
            while started.exists():
                time.sleep(0.01)
        registry.finish_run(run, "interrupted", None, "as told")


def at_work(path: Path, mark: Path, ends: bool = False):  # type: ignore[no-untyped-def]
    child = process(execute, path, mark, ends)
    while not mark.exists():
        time.sleep(0.01)
    return child


def summary(registry: Registry) -> str:
    (row,) = registry.rows("SELECT status FROM run_summary")
    return str(row["status"])


def let_leases_expire(registry: Registry) -> None:
    with registry.transaction() as connection:
        connection.execute("UPDATE run_leases SET expires_utc = ?", (utc_text(-1),))


def test_a_run_whose_process_was_killed_is_interrupted_at_once(registry: Registry, tmp_path: Path) -> None:
    child = at_work(registry.path, tmp_path / "started")
    assert (registry.run(1).status, registry.run(1).message, summary(registry)) == ("running", "", "running")
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    told = registry.run(1)
    assert (told.status, told.finished_utc) == ("interrupted", None)
    assert told.message == "its process is gone; run its spec again to continue it"
    let_leases_expire(registry)  # the view knows no processes
    assert summary(registry) == "interrupted"


def test_a_suspended_process_is_still_running(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunecast.registry.holders.LEASE_SECONDS", -60.0)  # as if it had been suspended for longer
    child = at_work(registry.path, tmp_path / "started")
    os.kill(child.pid, signal.SIGSTOP)
    let_leases_expire(registry)
    assert registry.run(1).status == "running"
    child.kill()
    child.join()
    assert registry.run(1).status == "interrupted"


def test_a_run_on_another_machine_is_running_until_its_lease_expires(registry: Registry) -> None:
    registry.start_run(KEY, "elsewhere", "{}", "")
    with registry.transaction() as connection:
        connection.execute("UPDATE run_leases SET holder = ? || ':1'", ("b" * 32,))
    assert (registry.run(1).status, summary(registry)) == ("running", "running")
    let_leases_expire(registry)
    assert (registry.run(1).status, summary(registry)) == ("interrupted", "interrupted")


def test_a_run_of_two_processes_is_running_until_both_are_gone(registry: Registry, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    ending, killed = at_work(registry.path, first, ends=True), at_work(registry.path, second)
    first.unlink()
    ending.join()
    assert registry.run(1).status == "running"
    killed.kill()
    killed.join()
    assert registry.run(1).status == "interrupted"


def test_an_earlier_killed_process_does_not_hide_that_the_run_goes_on(registry: Registry, tmp_path: Path) -> None:
    child = at_work(registry.path, tmp_path / "started")
    child.kill()
    child.join()
    assert registry.start_run(KEY, "again", "{}", "").resumed
    assert registry.run(1).status == "running"
    registry.finish_run(1, "failed", None, "why")
    assert (registry.run(1).status, registry.run(1).message) == ("failed", "why")


def test_the_lease_is_renewed_and_ends_with_the_block(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunecast.registry.leases.LEASE_SECONDS", 1.5)
    run = registry.start_run(KEY, "here", "{}", "").id
    let_leases_expire(registry)

    def work() -> None:
        deadline = time.monotonic() + 10
        while summary(registry) == "interrupted":  # until the renewal
            assert time.monotonic() < deadline
            time.sleep(0.05)
        raise SystemExit  # which no one records

    with pytest.raises(SystemExit), running(registry, run):
        work()
    assert registry.run(run).status == "interrupted"


def test_a_process_with_the_id_of_the_holder_is_not_the_holder() -> None:
    here, born = this_process(), psutil.Process().create_time()
    assert not has_ended(here)
    assert not has_ended(here, renewed=time.time())
    assert has_ended(here, renewed=born - 5)
    assert holds(here, utc_text(LEASE_SECONDS))


@pytest.mark.parametrize("holder", ["", ":", "x:y", "x:-1:z", f"x:{10**30}", "x:1"])
def test_names_of_holders_from_elsewhere_are_read_without_an_error(holder: str) -> None:
    assert holds(holder, utc_text(5))
    assert not holds(holder, utc_text(-5))
    place = this_process().partition(":")[0]
    assert has_ended(f"{place}:{holder}")


def test_a_run_that_is_at_work_elsewhere_is_interrupted_here(registry: Registry, tmp_path: Path) -> None:
    registry.start_run(KEY, "there", "{}", "")
    with Registry.open(tmp_path / "other.db") as other:
        merge(other, registry.path)
        assert (registry.run(1).status, other.run(1).status) == ("running", "interrupted")
        assert next(other.rows("SELECT status FROM runs"))["status"] == "interrupted"
        registry.finish_run(1, "finished", {"best": 1})
        merge(other, registry.path)
        assert (other.run(1).status, other.run(1).result) == ("finished", {"best": 1})
