"""Detection of network file systems, on which SQLite's write-ahead log does not work.

The index of a write-ahead log is in shared memory, which processes on several machines do not have
(https://www.sqlite.org/wal.html, section 1). On a network file system a registry uses a rollback journal instead: it is
slower, and as safe as the locks of that file system.
"""

from pathlib import Path

import psutil

NETWORK = {
    "9p",
    "afs",
    "afpfs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "gfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs3",
    "nfs4",
    "ocfs2",
    "orangefs",
    "panfs",
    "pvfs2",
    "smb",
    "smb2",
    "smb3",
    "smbfs",
    "webdav",
}
"""Names of network file systems as operating systems list them."""

NETWORK_OVER_FUSE = ("sshfs", "s3fs", "gcsfuse", "rclone", "glusterfs", "ceph", "davfs", "juicefs", "smb", "nfs")
"""Prefixes of ``NAME`` in ``fuse.NAME`` that mean a network file system."""


def network_file_system(path: Path) -> str | None:
    """Name of the network file system of ``path``, which need not exist; None if it is a local file system."""
    kind = _file_system(path)
    name = kind.removeprefix("fuse.")
    is_network = kind in NETWORK or (name != kind and name.startswith(NETWORK_OVER_FUSE))
    return kind if is_network else None


def _file_system(path: Path) -> str:
    place = path.absolute().resolve()
    mounted = {Path(partition.mountpoint): partition.fstype for partition in psutil.disk_partitions(all=True)}
    return next((mounted[folder].lower() for folder in (place, *place.parents) if folder in mounted), "")
