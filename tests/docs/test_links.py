"""Links between the pages of the repository lead somewhere: to a file, and to an anchor of it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from markdown import Page, folder_of, pages, read_page
from places import REPOSITORY


def broken_links(page: Page) -> Iterator[str]:
    """Links of a page into nothing, with their places."""
    for line, target in page.links():
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue
        file = (folder_of(page.file) / path).resolve()
        if not file.exists() or not file.is_relative_to(REPOSITORY):
            yield f"{page.file}:{line}: there is no {path}"
        elif anchor and anchor not in (_anchors(file) if path else page.anchors()):
            yield f"{page.file}:{line}: {path or page.file} has no heading #{anchor}"


@cache
def _anchors(file: Path) -> set[str]:
    return read_page(file.read_text(encoding="utf-8"), file.name).anchors()


def test_links_lead_to_files_and_headings() -> None:
    assert [problem for page in pages() for problem in broken_links(page)] == []


def test_a_link_into_nothing_is_told_with_its_line() -> None:
    text = "# One *more*\n\n[a](README.md#limits) [b](none.md) [c](#one-more)\n\n[d](#two) ![e](docs/images/none.png)\n"
    assert list(broken_links(read_page(text, "page.md"))) == [
        "page.md:3: there is no none.md",
        "page.md:5: page.md has no heading #two",
        "page.md:5: there is no docs/images/none.png",
    ]
