"""Building blocks of the conformance suite: checks, suites of checks, and verdicts.

A check is a function of a subject, named after its requirement. It returns if the plugin passes, and raises
:class:`CheckFailed`, or any exception of the plugin, if it fails. A check of a feature that the plugin does not declare
raises :class:`DoesNotApply` with the reason, so every skipped check is reported.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

from prunecast.errors import PluginError, did_you_mean
from prunecast.plugins.interfaces import Plugin, PluginOptions

Outcome = Literal["holds", "broken", "expected failure", "does not apply"]


class CheckFailed(AssertionError):
    """A plugin fails a check of its kind."""


class DoesNotApply(Exception):
    """A check needs a feature that the plugin does not declare, or a module or data that are not available."""


def require(condition: object, message: str) -> None:
    """Raise CheckFailed with the message unless the condition is true."""
    if not condition:
        raise CheckFailed(message)


PluginT = TypeVar("PluginT", bound=Plugin[Any])
SubjectT = TypeVar("SubjectT")


@dataclass(frozen=True)
class Subject(ABC, Generic[PluginT]):
    """A plugin under test.

    Attributes:
        plugin: class of the plugin.
        options: options of the test, as a spec would give them; small values make the suite quick.
        requires: modules that have to be installed for the plugin to work.
    """

    plugin: type[PluginT]
    options: Mapping[str, Any] = field(default_factory=dict)
    requires: Sequence[str] = ()

    def validated(self) -> PluginOptions:
        """Validated options. Raises DoesNotApply if a module that the plugin needs is missing."""
        if missing := [module for module in self.requires if find_spec(module) is None]:
            raise DoesNotApply(f"needs {', '.join(missing)}, which is not installed")
        return self.plugin.options_model.model_validate(dict(self.options))

    @abstractmethod
    def exercise(self) -> None:
        """Use the plugin once as a run does, from construction to its last method."""


Check = Callable[[SubjectT], None]


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check of a plugin.

    Attributes:
        check: name of the check.
        outcome: ``holds``, ``broken``, ``expected failure`` or ``does not apply``. A check that was expected to fail
            and passes counts as ``broken``, because its declaration is wrong.
        reason: reason for the outcome, in one line; empty if the check holds.
    """

    check: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Suite(Generic[SubjectT]):
    """The checks of one kind.

    Attributes:
        subject: constructor of the subject from a plugin (its class; of a family, its entry), its options and the
            modules it requires.
        checks: the checks, in the order in which they run.
    """

    subject: Callable[[Any, Mapping[str, Any], Sequence[str]], SubjectT]
    checks: tuple[Check[SubjectT], ...]

    def verdicts(self, subject: SubjectT, expected_failures: Mapping[str, str]) -> Iterator[Verdict]:
        """Run the checks one by one. Raises PluginError if an expected failure names no check of the suite."""
        names = [check.__name__ for check in self.checks]
        for name in expected_failures:
            if name not in names:
                raise PluginError(f"expected_failures: there is no check {name!r}{did_you_mean(name, names)}")
        for check in self.checks:
            yield verdict_on(check, subject, expected_failures.get(check.__name__))

    def check(
        self,
        plugin: Any,
        options: Mapping[str, Any] | None,
        expected_failures: Mapping[str, str] | None,
    ) -> list[Verdict]:
        """All verdicts on a plugin. Raises CheckFailed, with one line per failed check, if any fails."""
        verdicts = list(self.verdicts(self.subject(plugin, options or {}, ()), expected_failures or {}))
        if broken := [f"{verdict.check}: {verdict.reason}" for verdict in verdicts if verdict.outcome == "broken"]:
            name = plugin.__name__ if isinstance(plugin, type) else plugin.name
            raise CheckFailed("\n".join([f"{name} fails {len(broken)} of {len(verdicts)} checks", *broken]))
        return verdicts


def verdict_on(check: Check[SubjectT], subject: SubjectT, expected: str | None) -> Verdict:
    """Verdict of one check on a subject; ``expected`` is the reason for an expected failure, None if it should pass."""
    try:
        check(subject)
    except DoesNotApply as reason:
        return Verdict(check.__name__, "does not apply", str(reason))
    except (Exception, SystemExit) as error:  # noqa: BLE001  a plugin may raise anything
        return Verdict(
            check.__name__, "broken" if expected is None else "expected failure", expected or one_line(error)
        )
    if expected is None:
        return Verdict(check.__name__, "holds")
    return Verdict(check.__name__, "broken", f"declared as an expected failure ({expected}), but it holds")


def one_line(error: BaseException) -> str:
    """Message of an error in one line, with the type of the error unless it is CheckFailed."""
    message = " ".join(str(error).split())
    return message if isinstance(error, CheckFailed) else f"{type(error).__name__}: {message}"


class Conformance:
    """Base of the conformance classes: a test method for every check of the kind.

    Inherit from the class of the kind and name the plugin; pytest does the rest::

        class TestRidge(PredictorConformance):
            plugin = Ridge
            options = {"penalty": 0.5}

    Attributes:
        plugin: class under test; of a family, its entry.
        options: options of the test.
        expected_failures: names of checks that the plugin is known to fail, each with the reason. Such a test is
            reported as xfailed, and fails if the check passes.
    """

    plugin: ClassVar[type[Plugin[Any]]]
    options: ClassVar[Mapping[str, Any]] = {}
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, suite: Suite[Any] | None = None, **kwargs: Any) -> None:
        """Add one test method per check of the suite, for classes that name a suite."""
        super().__init_subclass__(**kwargs)
        for check in suite.checks if suite else ():
            setattr(cls, f"test_{check.__name__}", _test_of(check, cast(Suite[Any], suite)))


def _test_of(check: Check[Any], suite: Suite[Any]) -> Callable[[Conformance], None]:
    def test(self: Conformance) -> None:
        import pytest

        expected = self.expected_failures.get(check.__name__)
        try:
            check(suite.subject(self.plugin, self.options, ()))
        except DoesNotApply as reason:
            pytest.skip(str(reason))
        except Exception:
            if expected is None:
                raise
            pytest.xfail(expected)
        if expected is not None:
            pytest.fail(f"declared as an expected failure ({expected}), but it holds: remove the declaration")

    test.__doc__ = check.__doc__
    test.__name__ = f"test_{check.__name__}"
    return test
