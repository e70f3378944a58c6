"""Tells plugins what happens in a run; a listener that fails costs a warning, never the run."""

import logging

from prunecast.errors import PrunecastError
from prunecast.events import Event
from prunecast.isolation import isolated
from prunecast.plugins import PluginHost

logger = logging.getLogger(__name__)


class Listeners:
    """All plugins of a host that follow runs.

    Args:
        host: where they come from.
    """

    def __init__(self, host: PluginHost) -> None:
        self._manager = host.manager
        self._deaf: set[str] = set()

    def tell(self, event: Event) -> None:
        """Call every hook for this event; who raises is not called again by this object."""
        hook = f"prunecast_{event.event}"
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        for implementation in implementations:
            if implementation.plugin_name in self._deaf:
                continue
            others = [each.plugin for each in implementations if each is not implementation]
            try:
                with isolated(implementation.plugin_name, f"its hook {hook}"):
                    self._manager.subset_hook_caller(hook, others)(event=event)
            except PrunecastError as error:
                self._deaf.add(implementation.plugin_name)
                logger.warning("warning: %s; it hears no more of this run", error)
