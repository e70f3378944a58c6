"""The picture of the ratios: every baseline that a spec can name is drawn, each in a style of its own."""

from collections.abc import Callable, Sequence
from typing import get_args

import pytest

from prunecast.report import ratios
from prunecast.report.facts import Facts
from prunecast.report.section import Picture
from prunecast.report.theme import DARK, LIGHT, NARROW, SERIES, WIDE, Layout
from prunecast.spec.model import Spec

BASELINES: tuple[str, ...] = get_args(get_args(Spec.model_fields["baselines"].annotation)[0])

ComparedWith = Callable[[Sequence[str]], Facts]


def picture_of(facts: Facts) -> Picture:
    picture = ratios.section(facts).picture
    assert picture is not None
    return picture


@pytest.mark.parametrize("layout", [WIDE, NARROW])
def test_all_baselines_of_a_spec_and_the_best_are_drawn_in_different_styles(
    layout: Layout, compared_with: ComparedWith
) -> None:
    panels = picture_of(compared_with(BASELINES)).draw(layout).axes
    assert len(panels) == 2
    for axes in panels:
        lines = [line for line in axes.get_lines() if line.get_marker() != "None"]
        assert [line.get_label() for line in lines] == ["found", *BASELINES]
        assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == len(lines)


def test_a_series_without_a_style_is_an_error_and_not_left_out(compared_with: ComparedWith) -> None:
    picture = picture_of(compared_with([*BASELINES, "another"]))
    with pytest.raises(ValueError, match="shorter"):
        picture.draw(WIDE)


def test_colours_of_series_differ_on_the_light_and_on_the_dark_page() -> None:
    names = [next(name for name, light in LIGHT.items() if light == colour) for colour, _ in SERIES]
    assert len({LIGHT[name] for name in names}) == len({DARK[name] for name in names}) == len(SERIES)
