"""The plugin host: finds plugins through entry points and imports a plugin when a spec asks for it."""

import importlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from prunecast import hookspecs, interfaces
from prunecast.errors import PluginError, PrunecastError
from prunecast.hookspecs import Entry
from prunecast.interfaces import Plugin, PluginOptions

ENTRY_POINT_GROUP = "prunecast"

DISABLE = "PRUNECAST_DISABLE_PLUGINS"
"""Environment variable: names of entry points, separated by commas, that are not to be loaded."""

KINDS: Mapping[str, tuple[str, type[Plugin[Any]]]] = {
    "space": ("prunecast_search_spaces", interfaces.SearchSpace),
    "pruner": ("prunecast_pruners", interfaces.Pruner),
    "evaluator": ("prunecast_evaluators", interfaces.Evaluator),
    "predictor": ("prunecast_predictors", interfaces.Predictor),
    "searcher": ("prunecast_searchers", interfaces.Searcher),
}
"""Each kind's name, as the spec writes it, with its hook and its abstract class."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """An entry with its kind and the distribution that brought it."""

    kind: str
    entry: Entry
    distribution: str
    version: str

    def load(self) -> type[Plugin[Any]]:
        """Import the class.

        Raises:
            PluginError: that fails, or the class is of another kind; names the distribution.
        """
        owner = f"{self.kind} {self.entry.name!r} of {self.distribution} {self.version}"
        module_name, _, class_name = self.entry.target.partition(":")
        try:
            loaded = getattr(importlib.import_module(module_name), class_name)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{owner} cannot be imported from {self.entry.target!r}: {_reason(error)}") from error
        expected = KINDS[self.kind][1]
        if not (isinstance(loaded, type) and issubclass(loaded, expected)):
            raise PluginError(
                f"{owner}: {self.entry.target!r} is no subclass of prunecast.interfaces.{expected.__name__}"
            )
        options = getattr(loaded, "options_model", None)
        if not (isinstance(options, type) and issubclass(options, PluginOptions)):
            raise PluginError(
                f"{owner}: {self.entry.target!r} has no options_model: "
                "set it to a subclass of prunecast.interfaces.PluginOptions"
            )
        return loaded


@dataclass
class PluginHost:
    """All plugins at hand.

    Attributes:
        manager: the pluggy manager, with every plugin registered as ``DISTRIBUTION:ENTRY-POINT``.
        broken: plugins that could not be loaded, under the same names, and why. Nothing of theirs is registered.
    """

    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager("prunecast"))
    broken: dict[str, str] = field(default_factory=dict)
    _owners: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)

    @classmethod
    def discover(cls) -> "PluginHost":
        """Host with every plugin that an installed distribution names in the entry-point group ``prunecast``.

        A plugin that cannot be loaded, or does not keep to :mod:`prunecast.hookspecs`, costs a logged warning that
        names its distribution, never the other plugins. Those named in :data:`DISABLE` are left alone.
        """
        host = cls()
        disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.name not in disabled:
                host._load(point)
        return host

    def _load(self, point: EntryPoint) -> None:
        distribution, version = (point.dist.name, point.dist.version) if point.dist else ("an unknown package", "-")
        # Two distributions may well choose the same name for their entry points.
        name = f"{distribution}:{point.name}"
        self._owners[name] = (distribution, version)
        try:
            plugin = point.load()
            self.manager.register(plugin, name)
            self._check_hooks(plugin, distribution)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a third party's module may raise anything
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            owner = f"plugin {point.name!r} of {distribution} {version}"
            self.broken[name] = f"{owner} cannot be loaded from {point.value!r}: {_reason(error)}"
            logger.warning("warning: %s; upgrade it, uninstall it or set %s=%s", self.broken[name], DISABLE, point.name)

    def _check_hooks(self, plugin: object, distribution: str) -> None:
        callers = self.manager.get_hookcallers(plugin)
        if not callers:
            raise PluginError("it has no prunecast hook: decorate its functions with prunecast.hookspecs.hookimpl")
        for caller in callers:
            for implementation in (each for each in caller.get_hookimpls() if each.plugin is plugin):
                if caller.has_spec() and caller.name in {hook for hook, _ in KINDS.values()}:
                    _entries_of(implementation.function(), distribution)
                elif not (caller.has_spec() or implementation.optionalhook):
                    known = [name for name in vars(hookspecs) if name.startswith("prunecast_")]
                    raise PluginError(f"there is no hook {caller.name!r}{did_you_mean(caller.name, known)}")

    def entries(self, kind: str) -> dict[str, Registered]:
        """Entries of a kind by name, sorted. Raises PluginError naming both owners if two plugins share a name."""
        found: dict[str, Registered] = {}
        caller = getattr(self.manager.hook, KINDS[kind][0])
        for implementation in caller.get_hookimpls():
            owner = self._owners.get(implementation.plugin_name, (implementation.plugin_name, "-"))
            for entry in _entries_of(implementation.function(), owner[0]):
                registered = Registered(kind, entry, *owner)
                if (other := found.get(entry.name)) is not None:
                    raise PluginError(
                        f"{kind} {entry.name!r} is provided by both {other.distribution} and {owner[0]}: "
                        "uninstall one of them or ask its author for another name"
                    )
                found[entry.name] = registered
        return dict(sorted(found.items()))

    def find(self, kind: str, name: str) -> Registered:
        """The entry of that kind and name. Raises PluginError with the nearest and all available names."""
        entries = self.entries(kind)
        if name in entries:
            return entries[name]
        raise PluginError(f"no {kind} is called {name!r}{did_you_mean(name, entries)}{self._why_missing()}")

    def _why_missing(self) -> str:
        return "".join(f" ({reason})" for reason in self.broken.values())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Tail of a message about an unknown name: the nearest known one if any is near, and all of them."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{guess}; available: {', '.join(known) or 'none, no plugin provides one'}"


def _entries_of(handed_over: object, owner: str) -> list[Entry]:
    if not isinstance(handed_over, Iterable):
        raise PluginError(f"a prunecast hook of {owner} returned {type(handed_over).__name__}, not a list of Entry")
    entries = list(handed_over)
    for entry in entries:
        if not isinstance(entry, Entry):
            raise PluginError(f"a prunecast hook of {owner} handed over {type(entry).__name__}, not an Entry")
    return entries


def _reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ImportError | PrunecastError) else f"{type(error).__name__}: {message}"
