"""Which file systems a registry may lie on.

Write-ahead logging keeps its index in memory that all processes share, which those of several machines cannot
(https://www.sqlite.org/wal.html, section 1). On a network file system a registry keeps a rollback journal instead:
slower, and as safe as the locks of that file system are.
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
"""Names under which operating systems list file systems that several machines write to."""

NETWORK_OVER_FUSE = ("sshfs", "s3fs", "gcsfuse", "rclone", "glusterfs", "ceph", "davfs", "juicefs", "smb", "nfs")
"""What stands for such a file system in ``fuse.NAME``."""


def network_file_system(path: Path) -> str | None:
    """Name of the network file system that ``path`` (which need not exist) lies on; None if it is a local one."""
    kind = _file_system(path)
    name = kind.removeprefix("fuse.")
    is_network = kind in NETWORK or (name != kind and name.startswith(NETWORK_OVER_FUSE))
    return kind if is_network else None


def _file_system(path: Path) -> str:
    place = path.absolute().resolve()
    mounted = {Path(partition.mountpoint): partition.fstype for partition in psutil.disk_partitions(all=True)}
    return next((mounted[folder].lower() for folder in (place, *place.parents) if folder in mounted), "")
