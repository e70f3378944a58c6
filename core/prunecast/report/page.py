"""The page: all sections in one self-contained HTML file, and the pictures as PNG files beside it."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from prunecast.errors import PrunecastError
from prunecast.owned.folder import FolderKind, OwnedFolder
from prunecast.owned.location import located
from prunecast.owned.manifest import Origin
from prunecast.registry import Registry
from prunecast.registry.records import reading_result
from prunecast.report import (
    comparison,
    exports,
    importance,
    layers,
    learning,
    prediction,
    protocol,
    ratios,
    recovery,
    speed,
)
from prunecast.report.drawing import png, svg
from prunecast.report.facts import Facts
from prunecast.report.section import Section
from prunecast.report.theme import DARK, LIGHT, NARROW, WIDE
from prunecast.text import visible

PAGE = "index.html"
TEMPLATE = Path(__file__).with_name("page.html.j2")
REPORT = FolderKind(
    noun="report", manifest="prunecast_report.json", entry=PAGE, reserved=("prunecast_report.json", PAGE)
)

SECTIONS: tuple[Callable[[Facts], Section], ...] = (
    comparison.section,
    ratios.section,
    speed.section,
    layers.section,
    recovery.section,
    exports.section,
    prediction.section,
    importance.section,
    learning.section,
    protocol.section,
    protocol.stages,
    protocol.failures,
    protocol.spec,
)
"""Sections of the page in order."""


def write_report(registry: Registry, run: int | str, folder: str | Path, overwrite: bool = False) -> list[Path]:
    """Write the report of a finished run.

    Args:
        registry: the registry of the run.
        run: id, name or key of the run; see :meth:`Registry.run`.
        folder: destination, created if it does not exist; see :func:`prunecast.owned.location.located`. Files of an
            earlier report of the run are replaced where they differ; files of others stay.
        overwrite: True allows the report of another run, or an edited one, to be replaced.

    Returns:
        Paths of the page and of a PNG file for each picture.

    Raises:
        RegistryError: no such run, or it has no result of the form that prunecast writes.
        PrunecastError: matplotlib or jinja2 is missing, files are in the way, or the folder cannot be written.
    """
    _check_installed()
    record = registry.run(run)
    target = OwnedFolder(REPORT, located(folder, record.name))
    origin = Origin(record.name, {"spec": record.key})
    target.check(origin, overwrite)
    with reading_result(record):
        facts = Facts(registry, record)
        sections = [make(facts) for make in SECTIONS]
        page_html = render(facts, sections)
    pictures = [section.picture for section in sections if section.picture]
    with target.staged() as staged:
        (staged.path / PAGE).write_text(page_html, encoding="utf-8")
        for picture in pictures:
            png(picture, staged.path / f"{picture.name}.png")
        staged.publish(origin, {}, overwrite)
    return [target.path / PAGE, *(target.path / f"{picture.name}.png" for picture in pictures)]


def _shown(value: object) -> object:
    return visible(value, keep="\n\t") if type(value) is str else value


def _check_installed() -> None:
    for name in ("matplotlib", "jinja2"):
        if find_spec(name) is None:
            raise PrunecastError(f"a report needs {name}: install it with pip install 'prunecast[report]'")


def render(facts: Facts, sections: list[Section]) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    # Names and texts may come from anyone: hidden characters are shown as escapes, markup is escaped after that.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters["drawn"] = lambda picture: Markup("\n".join(svg(picture, layout) for layout in (WIDE, NARROW)))
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        facts=facts, sections=sections, light=LIGHT, dark=DARK
    )
