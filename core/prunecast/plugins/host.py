"""The plugin host: finds plugins through entry points and imports a plugin when a spec asks for it.

A broken plugin never affects other plugins: one that does not load, clashes or misbehaves causes a warning with the
name of its distribution, and is an error only if a spec uses it.
"""

import importlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import pluggy

from prunecast.errors import PluginError, did_you_mean
from prunecast.plugins import hookspecs, interfaces
from prunecast.plugins.executor import Executor
from prunecast.plugins.exporter import Exporter
from prunecast.plugins.hookspecs import CONTRACT, OLDEST_CONTRACT, Entry
from prunecast.plugins.interfaces import Plugin, PluginOptions
from prunecast.plugins.isolation import LOAD_SECONDS, isolated, tracing
from prunecast.plugins.local import Origin, imported, modules_at
from prunecast.plugins.tracing import hook_tracer

ENTRY_POINT_GROUP = "prunecast"

DISABLE = "PRUNECAST_DISABLE_PLUGINS"
"""Environment variable: comma-separated names of entry points to skip."""

FAMILY = "family"
"""Kind of the descriptions of families, which are data and have no class."""

KINDS: Mapping[str, tuple[str, type[Plugin[Any]]]] = {
    "space": ("prunecast_search_spaces", interfaces.SearchSpace),
    "pruner": ("prunecast_pruners", interfaces.Pruner),
    "evaluator": ("prunecast_evaluators", interfaces.Evaluator),
    "predictor": ("prunecast_predictors", interfaces.Predictor),
    "searcher": ("prunecast_searchers", interfaces.Searcher),
    "exporter": ("prunecast_exporters", Exporter),
    "executor": ("prunecast_executors", Executor),
}
"""Hook and abstract class by kind, under the names that specs use."""

HOOKS: Mapping[str, str] = {kind: hook for kind, (hook, _) in KINDS.items()} | {FAMILY: "prunecast_families"}
"""Hook by kind, families included."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """An entry with its kind and the distribution that provides it."""

    kind: str
    entry: Entry
    origin: Origin

    @property
    def distribution(self) -> str:
        """Name of the distribution that provides the plugin, or the path of a local plugin."""
        return self.origin.distribution

    @property
    def version(self) -> str:
        """Version of the distribution; of local plugins, the beginning of their hash."""
        return self.origin.version

    def __str__(self) -> str:
        return f"{self.kind} {self.entry.name!r} of {self.origin}"

    def load(self) -> type[Plugin[Any]]:
        """Import the class.

        Raises:
            PluginError: the import fails, or the class is not of this kind; the message names the distribution.
        """
        module_name, _, class_name = self.entry.target.partition(":")
        with isolated(str(self), f"its import from {self.entry.target!r}", LOAD_SECONDS):
            loaded = getattr(importlib.import_module(module_name), class_name)
        expected = KINDS[self.kind][1]
        if not (isinstance(loaded, type) and issubclass(loaded, expected)):
            raise PluginError(
                f"{self}: {self.entry.target!r} is not a subclass of prunecast.plugins.{expected.__name__}"
            )
        options = getattr(loaded, "options_model", None)
        if not (isinstance(options, type) and issubclass(options, PluginOptions)):
            raise PluginError(
                f"{self}: {self.entry.target!r} has no options_model: "
                "set it to a subclass of prunecast.plugins.PluginOptions"
            )
        return loaded


@dataclass(frozen=True)
class Unusable:
    """A plugin module that was found but is not used.

    Attributes:
        name: name of its entry point, or of its file.
        origin: origin of the plugin.
        state: ``broken``, or ``disabled`` by :data:`DISABLE`.
        reason: reason in one line.
    """

    name: str
    origin: Origin
    state: Literal["broken", "disabled"]
    reason: str


@dataclass
class PluginHost:
    """All available plugins.

    Attributes:
        manager: the pluggy manager, in which every plugin is registered as ``DISTRIBUTION:ENTRY-POINT``.
        unusable: plugins that cannot be loaded or are disabled, under the same names; they are not registered.
        local: files and folders of local plugins, in the order in which they were added.
    """

    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager("prunecast"))
    unusable: dict[str, Unusable] = field(default_factory=dict)
    local: list[Path] = field(default_factory=list)
    _origins: dict[str, Origin] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)
        if tracing():
            self.manager.add_hookcall_monitoring(*hook_tracer())

    @classmethod
    def discover(cls, folders: Iterable[Path] = ()) -> "PluginHost":
        """Host with all plugins of installed distributions, found in the entry-point group ``prunecast``.

        A plugin that cannot be loaded, or violates :mod:`prunecast.plugins.hookspecs`, is skipped with a logged
        warning that names its distribution. Plugins named in :data:`DISABLE` are not loaded.

        Args:
            folders: files or folders of additional local plugins, see :meth:`add_local`; broken ones are skipped with a
                warning too.
        """
        host = cls()
        disabled = {name.strip() for name in os.environ.get(DISABLE, "").split(",")}
        for point in entry_points(group=ENTRY_POINT_GROUP):
            origin = Origin(point.dist.name, point.dist.version) if point.dist else Origin("an unknown package", "-")
            # Entry points of different distributions may have the same name.
            name = f"{origin.distribution}:{point.name}"
            if point.name in disabled:
                host.unusable[name] = Unusable(point.name, origin, "disabled", f"is named in {DISABLE}")
            else:
                host._try(name, point.name, origin, point.value, point.load)
        for folder in folders:
            host.local.append(folder)
            for name, file, origin in modules_at(folder):
                host._try(name, file.name, origin, str(file), partial(imported, file, name))
        return host

    def add_local(self, path: Path) -> None:
        """Add the plugins of a Python file, or of all files with hooks in a folder. Adding a path again has no effect.

        Targets of local plugins are written as ``f"{__name__}:Class"``. Modules of a folder can import one another.

        Raises:
            PluginError: the file or folder does not exist, or one of its plugins cannot be loaded.
        """
        if path not in self.local:
            self.local.append(path)
        for name, file, origin in modules_at(path):
            if not self.manager.has_plugin(name):
                self._origins[name] = origin
                with isolated(f"plugin {file}", "its import", LOAD_SECONDS):
                    plugin = imported(file, name)
                self._register(name, plugin, optional=path.is_dir())

    def _try(self, name: str, short: str, origin: Origin, place: str, load: Callable[[], object]) -> None:
        """Load and register a plugin; if it is broken, log a warning and add it to ``unusable`` instead."""
        self._origins[name] = origin
        owner = f"plugin {short!r} of {origin}"
        try:
            with isolated(owner, "its import", LOAD_SECONDS):
                plugin = load()
            self._register(name, plugin, optional=origin.code_hash is not None)
        except PluginError as error:
            reason = str(error).removeprefix(f"{owner} failed in its import: ")
            self._note_broken(name, short, f"cannot be loaded from {place!r}: {reason}")

    def _note_broken(self, name: str, short: str, reason: str) -> None:
        origin = self._origin(name)
        self.unusable[name] = Unusable(short, origin, "broken", reason)
        problem = f"plugin {short!r} of {origin} {reason}"
        logger.warning("warning: %s; upgrade it, uninstall it or set %s=%s", problem, DISABLE, short)

    def _register(self, name: str, plugin: object, *, optional: bool) -> None:
        """Register a plugin. Raises PluginError if a hook is invalid, or if there is none and it is not optional."""
        _check_contract(plugin)
        try:
            with warnings.catch_warnings(record=True) as deprecated:
                warnings.simplefilter("always")
                self.manager.register(plugin, name)
            for warning in deprecated:
                logger.warning("warning: %s: %s", self._origins[name], warning.message)
            self._check_hooks(plugin, name, optional=optional)
        except (PluginError, pluggy.PluginValidationError) as error:
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            raise PluginError(" ".join(str(error).split())) from error

    def _check_hooks(self, plugin: object, name: str, *, optional: bool) -> None:
        callers = self.manager.get_hookcallers(plugin) or []
        if not callers and not optional:
            raise PluginError("it has no prunecast hook: decorate its functions with prunecast.plugins.hookimpl")
        kinds = {hook: kind for kind, hook in HOOKS.items()}
        for caller in callers:
            if caller.name in kinds:
                list(self._entries_of(kinds[caller.name], plugin, name))
            elif not caller.has_spec():
                own = [implementation for implementation in caller.get_hookimpls() if implementation.plugin is plugin]
                if not all(implementation.optionalhook for implementation in own):
                    known = [hook for hook in vars(hookspecs) if hook.startswith("prunecast_")]
                    raise PluginError(f"there is no hook {caller.name!r}{did_you_mean(caller.name, known)}")

    def _entries_of(self, kind: str, plugin: object, name: str) -> Iterator[Registered]:
        """Entries of one kind that the hook of one plugin returns."""
        origin, hook = self._origin(name), HOOKS[kind]
        others = [each.plugin for each in getattr(self.manager.hook, hook).get_hookimpls() if each.plugin is not plugin]
        with isolated(str(origin), f"its hook {hook}", LOAD_SECONDS):
            [returned] = self.manager.subset_hook_caller(hook, others)() or [None]
            if not isinstance(returned, Iterable):
                raise PluginError(f"its hook {hook} returned {type(returned).__name__}, not a list of Entry")
            entries = list(returned)
        for entry in entries:
            if not isinstance(entry, Entry):
                raise PluginError(f"its hook {hook} returned a list with {type(entry).__name__}, not Entry")
            yield Registered(kind, entry, origin)

    def _origin(self, name: str) -> Origin:
        return self._origins.get(name, Origin(name, "-"))

    def provided(self, kind: str) -> dict[str, list[Registered]]:
        """All entries of a kind, sorted by name; several entries under one name are a clash."""
        found: dict[str, list[Registered]] = {}
        for implementation in getattr(self.manager.hook, HOOKS[kind]).get_hookimpls():
            name = implementation.plugin_name
            try:
                for registered in self._entries_of(kind, implementation.plugin, name):
                    found.setdefault(registered.entry.name, []).append(registered)
            except PluginError as error:
                self.manager.unregister(name=name)
                self._note_broken(name, name.rpartition(":")[2], str(error))
        return dict(sorted(found.items()))

    def entries(self, kind: str) -> dict[str, Registered]:
        """Entries of a kind, sorted by name, without those whose names clash."""
        return {name: found[0] for name, found in self.provided(kind).items() if len(found) == 1}

    def find(self, kind: str, name: str) -> Registered:
        """The entry of that kind and name.

        Raises:
            PluginError: there is none (the message lists the nearest and all available names), or there are several (it
                names their distributions).
        """
        found = self.provided(kind).get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            owners = " and ".join(str(registered.origin) for registered in found)
            raise PluginError(
                f"{kind} {name!r} is provided by both {owners}: "
                f"uninstall one of them, leave one out with {DISABLE}, or ask its author for another name"
            )
        raise PluginError(f"no {kind} is called {name!r}{did_you_mean(name, self.entries(kind))}{self._why_missing()}")

    def _why_missing(self) -> str:
        return "".join(f" (plugin {each.name!r} of {each.origin} {each.reason})" for each in self.unusable.values())


def _check_contract(plugin: object) -> None:
    """Raise PluginError if the plugin states a contract version that this version of prunecast does not support."""
    stated = getattr(plugin, "PRUNECAST_CONTRACT", CONTRACT)
    if stated > CONTRACT:
        raise PluginError(f"it was written for contract {stated}, this prunecast has {CONTRACT}: upgrade prunecast")
    if stated < OLDEST_CONTRACT:
        raise PluginError(
            f"it was written for contract {stated}, this prunecast needs {OLDEST_CONTRACT} or newer: "
            "see docs/reference/plugins.md for the changes"
        )
