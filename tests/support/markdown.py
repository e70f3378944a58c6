"""What a Markdown page has in it: fenced blocks, code inside of a line, links and anchors, each with its line."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from places import REPOSITORY

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+) *(?P<language>[\w-]*)[^\n]*$")
_EXCUSE = re.compile(r"^ *<!-- not run: (?P<reason>.+?) -->$")
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(?P<title>.+?)(?: +\{ *#(?P<id>[\w-]+) *\})? *$")
_ANCHOR = re.compile(r"<a (?:id|name)=\"(?P<id>[^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        file: page, relative to the repository.
        line: line of its first line of content, from 1.
        language: word after the fence; may be empty.
        text: its content.
        excuse: reason of a comment ``<!-- not run: REASON -->`` right before it, or None.
    """

    file: str
    line: int
    language: str
    text: str
    excuse: str | None = None

    def __str__(self) -> str:
        """File and line, as editors open them."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page without its fenced blocks, which are in ``blocks``; the lines keep their numbers."""

    file: str
    lines: tuple[str, ...]
    blocks: tuple[Block, ...]

    def spans(self) -> Iterator[tuple[int, str]]:
        """Line and content of each piece of code inside of text."""
        text = "\n".join(self.lines)
        for found in _SPAN.finditer(text):
            yield text.count("\n", 0, found.start()) + 1, " ".join(found[2].split())

    def links(self) -> Iterator[tuple[int, str]]:
        """Line and target of each link and picture."""
        for number, line in enumerate(self.lines, 1):
            for found in _LINK.finditer(_SPAN.sub("", line)):
                yield number, found["target"]

    def anchors(self) -> set[str]:
        """What a link to the page can have behind its ``#``, by the rule of GitHub and of mkdocs."""
        found = [_HEADING.match(line) for line in self.lines]
        taken: dict[str, int] = {}
        for heading in filter(None, found):
            slug = heading["id"] or _slug(heading["title"])
            taken[slug] = taken.get(slug, -1) + 1
        again = {f"{slug}{joint}{n}" for slug, times in taken.items() for n in range(1, times + 1) for joint in "-_"}
        return {*taken, *again, *(each["id"] for line in self.lines for each in _ANCHOR.finditer(line))}


def _slug(title: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def read_page(text: str, file: str) -> Page:
    """A page from its text; ``file`` is what places are told by."""
    outside: list[str] = []
    blocks: list[Block] = []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        opened = _FENCE.match(line)
        outside.append("" if opened else line)
        if not opened:
            continue
        content: list[str] = []
        for _, inner in lines:
            outside.append("")
            if inner.strip() == opened["fence"]:
                break
            content.append(inner.removeprefix(opened["indent"]))
        before = _EXCUSE.match(outside[-len(content) - 3]) if number > 1 else None
        excuse = before["reason"] if before else None
        blocks.append(Block(file, number + 1, opened["language"], "".join(f"{each}\n" for each in content), excuse))
    return Page(file, tuple(outside), tuple(blocks))


@cache
def pages() -> tuple[Page, ...]:
    """Every Markdown page of the repository, but for what tests compare with."""
    if (REPOSITORY / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
        listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    else:
        folders = (".", "docs", "examples", "benchmarks")
        found = (REPOSITORY.glob("*.md" if folder == "." else f"{folder}/**/*.md") for folder in folders)
        listed = [str(file.relative_to(REPOSITORY)) for files in found for file in files]
    names = sorted({name for name in listed if not name.startswith("tests/") and (REPOSITORY / name).is_file()})
    return tuple(read_page((REPOSITORY / name).read_text(encoding="utf-8"), name) for name in names)


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of all pages that are in one of these languages."""
    return [block for page in pages() for block in page.blocks if block.language in languages]


def folder_of(page: str) -> Path:
    """Folder from which the relative links of a page start."""
    return (REPOSITORY / page).parent
