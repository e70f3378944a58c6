"""Progress without a terminal: occasional lines, none at the start or at the end."""

import pytest

from prunecast import progress
from prunecast.progress import Progress


def lines(capsys: pytest.CaptureFixture[str], shown: Progress) -> list[str]:
    with shown.bar("pairs", 4, "eval") as advance:
        for steps in (0, 1, 2, 1):
            advance(steps)
    return capsys.readouterr().err.splitlines()


def test_a_line_has_the_steps_done_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    said = lines(capsys, Progress())
    assert said == [f"pairs: {done} of 4 eval, about 00:00 left" for done in (1, 3)]
    assert lines(capsys, Progress(quiet=True)) == []


def test_short_tasks_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, Progress()) == []
