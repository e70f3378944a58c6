"""Publishing an export: one commit to a model repository of the Hugging Face Hub.

The commit holds all files of the export or does not exist, and only files that the manifest of the export lists are
uploaded. As in a folder, a manifest in the repository marks it as an export of prunecast. Foreign files there stay.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunecast.errors import ExportError
from prunecast.export.deliver import EXPORT
from prunecast.hub import unreachable
from prunecast.models.families.quiet import quiet_transformers
from prunecast.owned.files import digest
from prunecast.owned.folder import OwnedFolder
from prunecast.owned.manifest import Manifest
from prunecast.text import first_of, visible

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoSibling

_INITIAL = frozenset({".gitattributes"})
"""Files of a repository in which nothing has been put yet."""

_IGNORING = ".gitignore"
"""File of a repository whose patterns make the Hub leave files out of a commit, without an error."""

_LONGEST_REASON = 300


@dataclass(frozen=True)
class PushReport:
    """Result of a push or, if it was a dry run, of the push that it would be.

    Attributes:
        repository: ``owner/name``.
        address: address of its page.
        files: size in bytes of every file of the export, by name.
        uploaded: names of files that the repository did not hold yet.
        deleted: names of files that only the previous export in the repository had.
        created: True if the repository did not exist.
        private: True if only its owner can see it.
        commit: the commit that holds the export; None for a dry run.
    """

    repository: str
    address: str
    files: Mapping[str, int]
    uploaded: tuple[str, ...]
    deleted: tuple[str, ...]
    created: bool
    private: bool
    commit: str | None

    @property
    def unchanged(self) -> bool:
        """True if the repository held the same export before, so that nothing had to be committed."""
        return not self.created and not self.uploaded and not self.deleted

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {**asdict(self), "unchanged": self.unchanged}


@dataclass(frozen=True)
class _Export:
    """An export in a folder: its manifest, and its files by name, the manifest's own among them."""

    manifest: Manifest
    files: Mapping[str, Path]


@dataclass(frozen=True)
class _Remote:
    """A repository: its newest commit, its files by name, and the manifest of the export in it if there is one."""

    commit: str | None
    private: bool
    files: "Mapping[str, RepoSibling]"
    manifest: Manifest | None

    @property
    def is_empty(self) -> bool:
        return self.files.keys() <= _INITIAL


def check_destination(repository: str) -> None:
    """Find early what would prevent a push: a wrong name, no network or no token.

    Args:
        repository: ``owner/name`` on the Hub that ``HF_ENDPOINT`` names, by default huggingface.co.

    Raises:
        ExportError: it is no name of a repository, the Hub cannot be asked, or nobody is logged in.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ExportError(f"--push {visible(repository)}: {_reason(error)}; write owner/name") from error
    if repository.count("/") != 1:
        raise ExportError(
            f"--push {repository}: without an owner; write owner/{repository}, the owner being your user name or an "
            "organisation of yours"
        )
    if constants.HF_HUB_OFFLINE:
        raise ExportError(
            f"--push {repository}: offline mode is set; unset HF_HUB_OFFLINE and leave out --offline, or push later"
        )
    if get_token() is None:
        raise ExportError(f"--push {repository}: nobody is logged in; run `hf auth login`, or set HF_TOKEN")
    if unreachable():
        raise ExportError(
            f"--push {repository}: {constants.ENDPOINT} does not answer; check the network and HF_ENDPOINT, or push "
            "later"
        )


def push_folder(
    folder: Path, repository: str, overwrite: bool = False, private: bool = False, dry_run: bool = False
) -> PushReport:
    """Publish the export in a folder.

    A repository that does not exist is created as private, and made public after the commit. If the push fails
    before that, it is deleted again. If the repository holds this very export already, nothing is committed.

    Args:
        folder: folder of an export, for any target.
        repository: ``owner/name``.
        overwrite: True allows the files of another export to be replaced, and foreign files with the same names.
        private: True leaves a repository that is created private. One that exists is not changed.
        dry_run: True only reads the repository.

    Raises:
        ExportError: the folder holds no whole export, the repository holds something else, or the Hub refuses. The
            repository is as it was before, unless the message says otherwise.
    """
    from huggingface_hub import HfApi

    export = _export(folder)
    check_destination(repository)
    api = HfApi()
    with _one_line(repository):
        remote = _look(api, repository)
    changed, dropped = _changes(export, remote)
    if remote is not None:
        _check_place(repository, remote, export, overwrite)
        with _one_line(repository):
            _check_card(api, repository, remote, export, overwrite)
    commit = None
    if not dry_run:
        with _one_line(repository), quiet_transformers():
            commit = _publish(api, repository, remote, export, changed=changed, dropped=dropped, private=private)
    return PushReport(
        repository=repository,
        address=f"{api.endpoint}/{repository}",
        files={name: file.stat().st_size for name, file in sorted(export.files.items())},
        uploaded=tuple(changed),
        deleted=tuple(dropped),
        created=remote is None,
        private=private if remote is None else remote.private,
        commit=commit,
    )


def _export(folder: Path) -> _Export:
    """The export in a folder. Raises ExportError unless it is whole and unchanged; only its card may be edited."""
    folder = folder.resolve()
    manifest = Manifest.read(folder / EXPORT.manifest)
    if manifest is None:
        raise ExportError(f"{folder}: no export is there (no {EXPORT.manifest}); name the folder of one")
    files = {name: folder / name for name in (*manifest.files, EXPORT.manifest)}
    linked = any(files[name].is_symlink() for name in EXPORT.documents & files.keys())
    if linked or not OwnedFolder(EXPORT, folder).is_whole(manifest.origin.subject):
        raise ExportError(
            f"{folder}: files of the export are missing, or have changed since it was written; export again with "
            "--overwrite"
        )
    return _Export(manifest, files)


def _look(api: "HfApi", repository: str) -> _Remote | None:
    """The repository; None if it does not exist, or the token's owner may not see it."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(repository, files_metadata=True)
    except RepositoryNotFoundError:
        return None
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    manifest = None
    if EXPORT.manifest in files:
        with _downloaded(api, repository, info.sha, EXPORT.manifest) as file:
            manifest = Manifest.read(file)
    return _Remote(info.sha, bool(info.private), files, manifest)


@contextmanager
def _downloaded(api: "HfApi", repository: str, commit: str | None, name: str) -> Iterator[Path]:
    with TemporaryDirectory() as scratch, quiet_transformers():
        yield Path(api.hf_hub_download(repository, name, revision=commit, local_dir=scratch))


# -------------------------------------------------------------------------------------------- what is there already


def _changes(export: _Export, remote: _Remote | None) -> tuple[list[str], list[str]]:
    """Names of the files to upload, and of the files to delete, which only the previous export had."""
    there = {} if remote is None else remote.files
    changed = [name for name, file in sorted(export.files.items()) if not _holds(there.get(name), file)]
    before = () if remote is None or remote.manifest is None else remote.manifest.files
    return changed, sorted(name for name in before if name in there and name not in export.files)


def _holds(there: "RepoSibling | None", file: Path) -> bool:
    """True if a file of the repository has the content of one in the folder."""
    if there is None or there.size != file.stat().st_size:
        return False
    if there.lfs is not None:
        return bool(there.lfs.sha256 == digest(file))
    content = file.read_bytes()
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _check_place(repository: str, remote: _Remote, export: _Export, overwrite: bool) -> None:
    """Raise ExportError if the repository holds something else, or a foreign file that interferes with the export."""
    found = remote.manifest
    if found is None and not remote.is_empty and not overwrite:
        raise ExportError(
            f"{repository} exists and holds no export of prunecast (no {EXPORT.manifest}): choose another name, or "
            "put the export among its files with --overwrite"
        )
    differences = [] if found is None or overwrite else found.origin.differences(export.manifest.origin)
    if found is not None and differences:
        maker = f" of run {found.origin.run!r}" if found.origin.run else ""
        raise ExportError(
            f"{repository} holds the export{maker}, of another {' and '.join(differences)}: choose another name, or "
            "replace it with --overwrite"
        )
    ours = export.files.keys() | (set() if found is None else found.files.keys())
    others = sorted(name for name in remote.files if name not in ours)
    patterns = (*EXPORT.reserved, _IGNORING)
    if taken := [name for name in others if any(fnmatchcase(name, pattern) for pattern in patterns)]:
        what = "by which the Hub would leave out files" if _IGNORING in taken else "which would be read with the export"
        raise ExportError(
            f"{repository} holds {visible(first_of(taken))} of another origin, {what}: delete it there, or choose "
            "another name"
        )


def _check_card(api: "HfApi", repository: str, remote: _Remote, export: _Export, overwrite: bool) -> None:
    """Raise ExportError if a document was edited in the repository since it was pushed, and differs from ours."""
    pushed = {} if remote.manifest is None or overwrite else remote.manifest.files
    for name in sorted(EXPORT.documents & pushed.keys() & export.files.keys() & remote.files.keys()):
        if _holds(remote.files[name], export.files[name]):
            continue
        with _downloaded(api, repository, remote.commit, name) as file:
            if digest(file) != pushed[name]:
                raise ExportError(
                    f"{repository}: {name} was edited there: take it over into {export.files[name].parent}, or replace "
                    "it with --overwrite"
                )


# --------------------------------------------------------------------------------------------------- the one commit


def _publish(
    api: "HfApi",
    repository: str,
    remote: _Remote | None,
    export: _Export,
    *,
    changed: list[str],
    dropped: list[str],
    private: bool,
) -> str | None:
    """Commit the changes; returns the commit that holds the export."""
    if remote is not None:
        if not (changed or dropped):
            return remote.commit
        return _commit(api, repository, remote.commit, export, changed=changed, dropped=dropped)
    api.create_repo(repository, private=True)
    try:
        commit = _commit(api, repository, None, export, changed=changed, dropped=dropped)
    except BaseException as error:
        if left := _withdraw(api, repository):
            raise ExportError(f"{repository}: the push broke off ({_reason(error)}), and {left}") from error
        raise
    if not private:
        _make_public(api, repository)
    return commit


def _commit(
    api: "HfApi", repository: str, parent: str | None, export: _Export, *, changed: list[str], dropped: list[str]
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    run = visible(export.manifest.origin.run)
    done = api.create_commit(
        repository,
        [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=export.files[name]) for name in changed),
            *(CommitOperationDelete(path_in_repo=name) for name in dropped),
        ],
        commit_message=f"Export of run {run} by prunecast" if run else "Export by prunecast",
        parent_commit=parent,
    )
    return str(done.oid)


def _withdraw(api: "HfApi", repository: str) -> str:
    """Delete the repository that this push has created, unless it holds files.

    Returns:
        A clause on what is left; empty if nothing is.
    """
    address = f"{api.endpoint}/{repository}"
    try:
        remote = _look(api, repository)
        if remote is not None and not remote.is_empty:
            return f"files are in the new repository {address}, which is private: look at it there"
        api.delete_repo(repository, missing_ok=True)
    # The network and the Hub's libraries raise many classes of exceptions; the error of the push is the one to report.
    except Exception:  # noqa: BLE001
        return f"the new repository, empty and private, could not be deleted: do it at {address}/settings"
    return ""


def _make_public(api: "HfApi", repository: str) -> None:
    try:
        api.update_repo_settings(repository, private=False)
    except Exception as error:
        raise ExportError(
            f"{repository}: the export is there and whole, but could not be made public ({_reason(error)}): do it at "
            f"{api.endpoint}/{repository}/settings"
        ) from error


# ----------------------------------------------------------------------------------------------------------- errors


@contextmanager
def _one_line(repository: str) -> Iterator[None]:
    """Turn errors of the Hub's libraries into an ExportError."""
    try:
        yield
    except ExportError:
        raise
    # The libraries and the network raise many classes of exceptions, all of which mean that nothing was published.
    except Exception as error:
        raise _refusal(repository, error) from error


def _refusal(repository: str, error: Exception) -> ExportError:
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    tokens = f"{constants.ENDPOINT}/settings/tokens"
    reasons = {
        401: "the Hub does not accept the token: run `hf auth login` again, or correct HF_TOKEN",
        403: f"the token has no right to write there: make one that has at {tokens}, then run `hf auth login`",
        409: "it exists already, and the token does not let you see it: choose another name, or ask for access",
        412: "it was changed while this was pushed: look at what is there, then push again",
    }
    if status in reasons:
        return ExportError(f"{repository}: {reasons[status]}")
    return ExportError(f"{repository}: the push broke off ({_reason(error)}); nothing of it is there: push again")


def _reason(error: BaseException) -> str:
    """Message of an error in one line; an error of an upload includes its cause."""
    cause = error.__cause__ if isinstance(error, RuntimeError) else None
    said = " ".join(" ".join(str(each).split()) for each in (error, cause) if each is not None)
    return visible(said[:_LONGEST_REASON].removesuffix(".") or type(error).__name__)
