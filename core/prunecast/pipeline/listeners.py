"""Tells plugins what happens in a run; a listener that fails costs a warning, never the run."""

import logging

from prunecast.events import Event
from prunecast.plugins import PluginHost

logger = logging.getLogger(__name__)


class Listeners:
    """All plugins of a host that follow runs.

    Args:
        host: where they come from.
    """

    def __init__(self, host: PluginHost) -> None:
        self._hook = host.manager.hook
        self._deaf: set[str] = set()

    def tell(self, event: Event) -> None:
        """Call every hook for this event; who raises is not called again by this object."""
        for implementation in getattr(self._hook, f"prunecast_{event.event}").get_hookimpls():
            owner = implementation.plugin_name
            if owner in self._deaf:
                continue
            try:
                implementation.function(*(event for _ in implementation.argnames))
            except (Exception, SystemExit) as error:  # noqa: BLE001  a third party's function may raise anything
                self._deaf.add(owner)
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                logger.warning(
                    "warning: %s failed when told of %s and hears no more of this run: %s", owner, event.event, reason
                )
