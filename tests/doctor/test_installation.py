"""Versions against their lower bounds."""

import platform
from importlib.metadata import version

from packaging.requirements import Requirement
from places import REPOSITORY

from prunecast.doctor.finding import Finding, findings_of
from prunecast.doctor.installation import installed, required, versions


def states(*written: str) -> dict[str, str]:
    return {found.subject: found.state for found in required(map(Requirement, written))}


def test_a_package_that_is_missing_or_too_old_is_broken() -> None:
    assert states("click>=8", "torch>=2") == {"torch": "ok", "packages": "ok"}
    assert states("click>=99", "torch>=99", "never-heard-of>=1") == {
        "click": "broken",
        "torch": "broken",
        "never-heard-of": "broken",
        "packages": "ok",
    }


def test_the_message_says_what_is_there_what_is_required_and_how_to_get_it() -> None:
    [old, others] = required([Requirement("click>=99")])
    assert old.text == f"{version('click')} is installed, >=99 is required: pip install 'click>=99'"
    assert others.text == "0 other required packages, none older than required"
    [missing, _] = required([Requirement("never-heard-of>=1")])
    assert missing.text == "is not installed, >=1 is required: pip install 'never-heard-of>=1'"


def test_every_required_package_of_the_distribution_is_looked_at() -> None:
    import tomllib
    from importlib.metadata import requires

    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    found = {finding.subject: finding for finding in versions()}
    assert found["python"].text.startswith(platform.python_version())
    # The metadata may be those of an older installation of this checkout.
    known = [line for line in requires("prunecast") or () if "extra" not in line]
    assert set(known) <= set(declared)
    assert found["packages"].text.startswith(f"{len(known) - 2} other required packages")


def test_a_distribution_that_is_not_installed_has_no_version() -> None:
    assert installed("never-heard-of") is None
    assert installed("click") == version("click")


def test_a_look_that_fails_is_broken_and_does_not_stop_the_others() -> None:
    def look():  # type: ignore[no-untyped-def]
        yield Finding("ok", "device", "cpu")
        raise ImportError("libtorch.so: cannot open\nmore")

    first, last = findings_of("device", look)
    assert first.state == "ok"
    assert last == Finding("broken", "device", "ImportError: libtorch.so: cannot open")
