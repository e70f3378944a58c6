"""Publishing a registry as a data set of the Hub, or as a local folder with the same files."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prunecast.errors import RegistryError
from prunecast.hub import unreachable
from prunecast.registry.sharing.files import read_records, write_records
from prunecast.registry.sharing.records import (
    Absorbed,
    Record,
    absorb,
    evaluation_records,
    records_of,
    run_records,
    steps_records,
)
from prunecast.registry.store import Registry
from prunecast.text import markdown

EVALUATIONS, RUNS, STEPS, CARD = "evaluations.parquet", "runs.jsonl", "steps.parquet", "README.md"

_CARD = """---
tags: [prunecast, pruning]
configs:
- {{config_name: default, data_files: {evaluations}}}
---

# A prunecast registry

{measured:,} evaluations of pruned architectures of {models}, and the {runs:,} runs that made them. Every row of
`{evaluations}` is one evaluation: model, pruner, evaluator, dtype, architecture, metrics and where they were measured.

```sh
prunecast registry pull {name}
```
"""


def publish(registry: Registry, destination: str, private: bool = False) -> str:
    """Write the registry to a data set of the Hub, or to a folder. Records already published there are kept.

    Args:
        registry: the registry.
        destination: ``owner/name``, or a folder: one that exists, or a path that starts with ``.``, ``/`` or ``~``.
        private: True to make the data set private if it is created.

    Returns:
        The folder, or the address of the data set.

    Raises:
        RegistryError: the folder cannot be written, or the Hub refuses the upload.
    """
    if _is_folder(destination):
        folder = Path(destination).expanduser()
        _write_folder(registry, folder, destination)
        return str(folder)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    _refuse_unreachable(destination)
    with tempfile.TemporaryDirectory() as name:
        try:
            try:
                _download(destination, None, name)
            except RepositoryNotFoundError:
                HfApi().create_repo(destination, repo_type="dataset", private=private, exist_ok=True)
            _write_folder(registry, Path(name), destination)
            HfApi().upload_folder(repo_id=destination, repo_type="dataset", folder_path=name, delete_patterns=None)
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise _no_hub(destination, error) from error
    return f"hf://datasets/{destination}"


def pull(registry: Registry, source: str, theirs: bool = False, revision: str | None = None) -> Absorbed:
    """Take in a published data set or folder, as :func:`prunecast.registry.sharing.merge.merge` does with a file.

    Args:
        registry: the registry to take it into, open for writing.
        source: ``owner/name``, or a folder.
        theirs: True to replace the numbers of this registry in a conflict.
        revision: revision of the data set; None for the latest.

    Returns:
        Counts, and the conflicts.

    Raises:
        RegistryError: there is no such folder or data set, or it was not written by :func:`publish`.
    """
    if _is_folder(source):
        return absorb(registry, _read_folder(Path(source).expanduser()), theirs)
    _refuse_unreachable(source)
    with tempfile.TemporaryDirectory() as name:
        try:
            _download(source, revision, name)
        except (OSError, ValueError) as error:
            raise _no_hub(source, error) from error
        return absorb(registry, _read_folder(Path(name)), theirs)


def _is_folder(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def _refuse_unreachable(name: str) -> None:
    if unreachable():
        raise _no_hub(name, ConnectionError("the Hub does not answer"))


def _download(name: str, revision: str | None, folder: str) -> Any:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        name, repo_type="dataset", revision=revision, local_dir=folder, allow_patterns=[EVALUATIONS, RUNS, STEPS]
    )


def _no_hub(name: str, error: Exception) -> RegistryError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return RegistryError(
        f"data set {name}: {reason[0]}; check its name, your access and the network, or name a folder (./{name})"
    )


def _read_folder(folder: Path) -> Iterator[Record]:
    if not (folder / EVALUATIONS).is_file():
        raise RegistryError(f"{folder}: has no {EVALUATIONS}; name a folder or data set that was published")
    for name in (RUNS, EVALUATIONS, STEPS):
        if (folder / name).is_file():
            yield from read_records(folder / name)


def _write_folder(registry: Registry, folder: Path, name: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryError(f"{folder}: cannot be written ({error.strerror}); name another folder") from error
    if not (folder / EVALUATIONS).exists():
        _write_files(registry, folder, name)
        return
    with tempfile.TemporaryDirectory() as scratch, Registry.open(Path(scratch) / "registry.db") as both:
        absorb(both, records_of(registry))
        absorb(both, _read_folder(folder))
        _write_files(both, folder, name)


def _write_files(registry: Registry, folder: Path, name: str) -> None:
    runs = write_records(run_records(registry), folder / RUNS)
    measured = write_records(evaluation_records(registry), folder / EVALUATIONS)
    write_records(steps_records(registry), folder / STEPS)
    models = ", ".join(
        markdown(row["source"]) for row in registry.rows("SELECT DISTINCT source FROM models ORDER BY id")
    )
    card = _CARD.format(evaluations=EVALUATIONS, measured=measured, runs=runs, models=models or "none yet", name=name)
    (folder / CARD).write_text(card, encoding="utf-8")
