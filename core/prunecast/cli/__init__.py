"""The command line. Modules here import nothing heavy at the top: ``prunecast --help`` answers at once."""

import sys

from prunecast.cli.main import cli


def main() -> None:
    """Entry point of the ``prunecast`` command."""
    sys.exit(cli.main(standalone_mode=False, prog_name="prunecast"))
