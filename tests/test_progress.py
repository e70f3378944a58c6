"""Progress where there is no terminal: a line now and then, and none about what is done or has not begun."""

import pytest

from prunecast import progress
from prunecast.progress import Progress


def lines(capsys: pytest.CaptureFixture[str], shown: Progress) -> list[str]:
    with shown.bar("pairs", 4, "eval") as advance:
        for steps in (0, 1, 2, 1):
            advance(steps)
    return capsys.readouterr().err.splitlines()


def test_a_line_says_how_far_it_is_and_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    said = lines(capsys, Progress())
    assert said == [f"pairs: {done} of 4 eval, about 00:00 left" for done in (1, 3)]
    assert lines(capsys, Progress(quiet=True)) == []


def test_what_is_over_within_a_minute_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, Progress()) == []
