"""The command line. Its modules import heavy packages inside the commands, so that ``prunecast --help`` is fast."""

import sys

from prunecast.cli.main import cli
from prunecast.cli.signals import end_on_signals
from prunecast.cli.streams import prepare_streams


def main() -> None:
    """Entry point of the ``prunecast`` command."""
    prepare_streams()
    end_on_signals()
    sys.exit(cli.main(standalone_mode=False, prog_name="prunecast"))
