"""Parts of a local file that has no splits: train, validation and test, disjoint and the same on every machine."""

import json
from collections.abc import Sequence
from hashlib import blake2b

from prunecast.data.dataset import Row, text_column
from prunecast.data.reading import Shares
from prunecast.errors import DataError

PARTS = ("train", "validation", "test")

_REACH = 0.02
"""Greatest distance of a cut from its share of the text, in lengths of the text, to end a paragraph or a line."""


def cut_rows(rows: Sequence[Row], part: str, shares: Shares) -> list[Row]:
    """Rows of a part, in the order of the file.

    Distinct documents are ordered by a hash of their text and then cut by the shares, so that equal documents are in
    one part, wherever they stand. The text is that of the column read by default, whatever column is read; a row
    without such a column is a document as a whole. With three documents or more, no part with a share is empty.

    Raises:
        DataError: there are fewer documents than parts, or the part has no share.
    """
    if not rows:
        return []
    column = text_column(rows[0])
    keys = [_key(row, column) for row in rows]
    ordered = sorted(set(keys))
    start, stop = _bounds(len(ordered), part, shares)
    chosen = set(ordered[start:stop])
    return [row for row, key in zip(rows, keys, strict=True) if key in chosen]


def cut_text(text: str, part: str, shares: Shares) -> str:
    """A part of one text: train is its beginning, test its end. Cuts are between paragraphs, or lines, or words.

    Raises:
        DataError: the part has no share.
    """
    if not text.strip():
        return text
    start, stop = _bounds(len(text), part, shares)
    return text[_break(text, start) : _break(text, stop)]


def _key(row: Row, column: str | None) -> bytes:
    value = row.get(column) if column is not None else None
    text = value if isinstance(value, str) else json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return blake2b(text.encode("utf-8"), digest_size=16).digest()


def _bounds(count: int, part: str, shares: Shares) -> tuple[int, int]:
    """Positions of the first and after the last item of a part, of ``count`` in all."""
    given = {name: getattr(shares, name) for name in PARTS}
    if not given[part]:
        raise DataError(f"the part {part} has no share; give it one under splits")
    wanted = [name for name in PARTS if given[name]]
    if count < len(wanted):
        raise DataError(
            f"{count} distinct document(s) cannot be cut into {', '.join(wanted)}; write split: all for the whole "
            "file, or give each part a file of its own"
        )
    sizes = {name: max(1, round(count * given[name])) if given[name] else 0 for name in PARTS}
    largest = max(wanted, key=lambda name: given[name])
    sizes[largest] += count - sum(sizes.values())
    before = PARTS[: PARTS.index(part)]
    start = sum(sizes[name] for name in before)
    return start, start + sizes[part]


def _break(text: str, at: int) -> int:
    """Position after the end of a paragraph, else line, else word, nearest to ``at``; ``at`` if none is near."""
    if at in (0, len(text)):
        return at
    reach = max(1, round(len(text) * _REACH))
    for end in ("\n\n", "\n", " "):
        before = text.rfind(end, at - reach, at)
        after = text.find(end, at, at + reach)
        near = [position + len(end) for position in (before, after) if position >= 0]
        if near:
            return min(near, key=lambda position: abs(position - at))
    return at
