"""Versions of prunecast and of what it needs, its plugins, and its optional packages."""

import importlib.metadata
import platform
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from prunecast.doctor.finding import Finding, State
from prunecast.plugins.host import HOOKS, PluginHost
from prunecast.text import counted

DISTRIBUTION = "prunecast"

SHOWN = ("torch", "transformers")
"""Requirements with a line of their own; the others have one together."""

PURPOSES = {
    "lm-eval": "tasks of the Language Model Evaluation Harness as evaluators",
    "ray": "the executor ray, for clusters",
    "recover": "training of low-rank adapters after pruning",
    "report": "prunecast report",
    "samplers": "samplers of CMA-ES and OptunaHub for the searcher optuna",
    "testing": "tests of plugins of your own",
}
"""What the extras are for, by name."""


def versions() -> Iterator[Finding]:
    """Versions of prunecast, of Python and of the required packages, against the lower bounds of the distribution."""
    metadata = importlib.metadata.metadata(DISTRIBUTION)
    yield Finding("ok", "prunecast", metadata["Version"])
    python, wanted = platform.python_version(), metadata["Requires-Python"]
    if SpecifierSet(wanted).contains(python, prereleases=True):
        yield Finding("ok", "python", f"{python} (required: {wanted})")
    else:
        yield Finding("broken", "python", f"{python}, and {wanted} is required: install a newer Python")
    yield from required(_requirements(""))


def required(requirements: Iterable[Requirement]) -> Iterator[Finding]:
    """The required packages: a line for each of :data:`SHOWN`, for each that is unfit, and one for all others."""
    others = 0
    for requirement in requirements:
        version = installed(requirement.name)
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        if not fits:
            found = "is not installed" if version is None else f"{version} is installed"
            yield Finding(
                "broken", requirement.name, f"{found}, {requirement.specifier} is required: pip install '{requirement}'"
            )
        elif requirement.name in SHOWN:
            yield Finding("ok", requirement.name, f"{version} (required: {requirement.specifier})")
        else:
            others += 1
    yield Finding("ok", "packages", f"{counted(others, 'other required package')}, none older than required")


def extras() -> Iterator[Finding]:
    """The optional packages, by extra, and what they are for. A missing one is no fault; one that is too old is."""
    for extra in sorted(importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ()):
        packages = _requirements(extra)
        purpose = PURPOSES.get(extra, "other features")
        found = {package: installed(package.name) for package in packages}
        missing = [package.name for package, version in found.items() if version is None]
        old = [
            f"{package.name} {version} ({package.specifier} is required)"
            for package, version in found.items()
            if version is not None and not package.specifier.contains(version, prereleases=True)
        ]
        install = f"pip install '{DISTRIBUTION}[{extra}]'"
        if old:
            yield Finding("warning", f"extra {extra}", f"{', '.join(old)}, for {purpose}: {install}")
        elif missing:
            lack = f"without {', '.join(missing)}, for {purpose}; to have that: {install}"
            yield Finding("ok", f"extra {extra}", lack)
        else:
            has = ", ".join(f"{package.name} {version}" for package, version in found.items())
            yield Finding("ok", f"extra {extra}", f"{has}, for {purpose}")


def plugins(host: PluginHost) -> Iterator[Finding]:
    """Number of the plugins that a spec can name, and a line for each that cannot be used."""
    entries = [entry for kind in HOOKS for entry in host.entries(kind).values()]
    providers = sorted({entry.distribution for entry in entries})
    state: State = "ok" if entries else "broken"
    yield Finding(state, "plugins", f"{counted(len(entries), 'plugin')} of {', '.join(providers) or 'no package'}")
    for unusable in host.unusable.values():
        if unusable.state == "broken":
            told = f"{unusable.name} of {unusable.origin} {unusable.reason}: upgrade it, or uninstall it"
            yield Finding("warning", "plugins", told)


def installed(name: str) -> str | None:
    """Version of an installed distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(extra: str) -> list[Requirement]:
    """Requirements on this platform: those of an extra, or of every installation if it has no name."""
    found = map(Requirement, importlib.metadata.requires(DISTRIBUTION) or ())
    chosen = []
    for requirement in found:
        of_extra = requirement.marker is not None and "extra" in str(requirement.marker)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if applies and of_extra == bool(extra):
            chosen.append(requirement)
    return chosen
