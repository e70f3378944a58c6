"""The command line. Its modules import heavy packages inside the commands, so that ``prunecast --help`` is fast."""

import sys

from prunecast.cli.main import cli


def main() -> None:
    """Entry point of the ``prunecast`` command."""
    sys.exit(cli.main(standalone_mode=False, prog_name="prunecast"))
