"""The health of a registry."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from prunecast.doctor.finding import Finding
from prunecast.errors import RegistryError
from prunecast.registry.unchanged import unchanged
from prunecast.registry.upkeep.verify import problems
from prunecast.text import counted

_MOST = 20
"""Number of problems after which no more are looked for."""


def registry(path: Path) -> Iterator[Finding]:
    """Whether a registry can be opened, and holds together. One that is not there yet is no fault.

    Nothing is written to it; as always, SQLite may leave its two files beside one that has been read.
    """
    there = path.exists() and path.stat().st_size > 0
    try:
        with unchanged(path) as opened:
            found = list(islice(problems(opened), _MOST))
            [counts] = opened.rows(
                "SELECT (SELECT count(*) FROM runs) AS runs, count(*) AS evaluations FROM evaluations"
            )
    except RegistryError as error:
        yield Finding("broken", "registry", str(error))
        return
    if found:
        count = f"{_MOST} problems or more" if len(found) == _MOST else counted(len(found), "problem")
        told = f"{path}: {count}, the first: {found[0]}; all: prunecast registry verify --registry {path}"
        yield Finding("broken", "registry", told)
    elif there:
        content = f"{counted(counts['runs'], 'run')}, {counted(counts['evaluations'], 'evaluation')}"
        yield Finding("ok", "registry", f"{path}: {content}, no problem found")
    else:
        yield Finding("ok", "registry", f"{path}: not there yet; a run makes it")
