"""Options of ``prunecast export`` that publish the export, and what they print."""

from typing import TYPE_CHECKING, Any

import click

from prunecast.cli.output import echo, echo_lines, table
from prunecast.text import counted, size

if TYPE_CHECKING:
    from prunecast.export.push import PushReport


def push_options(command: Any) -> Any:
    """Add the options ``--push``, ``--private`` and ``--dry-run`` to a command."""
    options = (
        click.option(
            "--push",
            metavar="OWNER/NAME",
            help="Then publish the export on the Hugging Face Hub, in one commit. A new repository is public. One that "
            "holds something else needs --overwrite.",
        ),
        click.option("--private", is_flag=True, help="With --push: a new repository is private."),
        click.option("--dry-run", is_flag=True, help="With --push: list what would be uploaded, and upload nothing."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def check_options(push: str | None, private: bool, dry_run: bool) -> None:
    """Find what would keep the export from being published before it is written.

    Raises:
        click.UsageError: an option that belongs to ``--push`` stands alone.
        ExportError: the name is wrong, the Hub cannot be asked, or nobody is logged in.
    """
    if push is not None:
        from prunecast.export.push import check_destination

        check_destination(push)
    elif private or dry_run:
        raise click.UsageError(f"{'--dry-run' if dry_run else '--private'} needs --push: the repository, owner/name")


def show_push(report: "PushReport", dry_run: bool) -> None:
    """Print what was published, or the files that would be."""
    total = f"{counted(len(report.files), 'file')}, {size(sum(report.files.values()))}"
    visibility = "private" if report.private else "public"
    if dry_run:
        rows = [[name, f"{count:,}", _state(name, report)] for name, count in report.files.items()]
        echo_lines(table(["file", "bytes", "state"], rows + [[name, "", "delete"] for name in report.deleted]))
        state = f"a new {visibility} repository" if report.created else f"a {visibility} repository that exists"
        echo(f"{report.address}, {state}: {total}; nothing was uploaded")
    elif report.unchanged:
        echo(f"{report.address}: {total}, unchanged ({visibility})")
    else:
        echo(f"{report.address}: {total}, in commit {report.commit} ({visibility})")


def _state(name: str, report: "PushReport") -> str:
    return "upload" if name in report.uploaded else "there already"
