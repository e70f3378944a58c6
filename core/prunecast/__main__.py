"""Entry point of ``python -m prunecast``."""

from prunecast.cli import main

main()
