"""Paths of folders to write: what users may give, and the one line for what leads nowhere."""

from contextlib import chdir
from pathlib import Path

import pytest

from prunecast.errors import ExportError
from prunecast.owned.location import located


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_quoted_tilde_is_the_home_folder(home: Path) -> None:
    assert located("~/models/small", "any") == home / "models" / "small"
    assert located(Path("~") / "small", "any") == home / "small"


def test_a_relative_path_is_absolute_and_a_dot_is_the_current_folder(tmp_path: Path) -> None:
    with chdir(tmp_path):
        assert located("out/../small/", "any") == tmp_path / "small"
        assert located(".", "any") == tmp_path


def test_links_are_followed_also_to_what_does_not_exist_yet(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "models", target_is_directory=True)
    assert located(tmp_path / "link" / "small", "any") == tmp_path / "disk" / "models" / "small"


def test_the_name_of_the_run_stands_in_for_its_mark_and_other_braces_stay(tmp_path: Path) -> None:
    assert located(f"{tmp_path}/{{name}}/{{size}}", "tiny 70 %") == tmp_path / "tiny 70 %" / "{size}"


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", ".", "", "a\\b", "a\0b"])
def test_a_name_that_is_more_than_one_part_of_a_path_is_refused(name: str) -> None:
    with pytest.raises(ExportError, match="cannot be a part of a path"):
        located("out/{name}", name)
    assert located("out/fixed", name).name == "fixed"


@pytest.mark.parametrize("path", ["", "  ", "a\0b", "~nobody-of-this-name/x", "circle/x"])
def test_a_path_that_leads_nowhere_is_one_line(tmp_path: Path, path: str) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with chdir(tmp_path), pytest.raises(ExportError) as caught:
        located(path, "any")
    assert "\n" not in str(caught.value)
