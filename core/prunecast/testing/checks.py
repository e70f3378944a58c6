"""What the conformance suite is made of: laws, and what comes of trying a plugin against them.

A law is a function of a subject whose name says what it demands. It returns if the plugin keeps it, and raises
:class:`LawBroken`, or whatever the plugin raises, if not. A law that asks for something the plugin does not promise
raises :class:`DoesNotApply` with the reason, so nothing is ever skipped in silence.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

from prunecast.errors import PluginError, did_you_mean
from prunecast.plugins.interfaces import Plugin, PluginOptions

Outcome = Literal["holds", "broken", "expected failure", "does not apply"]


class LawBroken(AssertionError):
    """A plugin does not keep a law of its kind."""


class DoesNotApply(Exception):
    """A law asks for something that the plugin does not promise, or that is not at hand."""


def hold(condition: object, otherwise: str) -> None:
    """Raise LawBroken with the message ``otherwise`` unless the condition is true."""
    if not condition:
        raise LawBroken(otherwise)


PluginT = TypeVar("PluginT", bound=Plugin[Any])
SubjectT = TypeVar("SubjectT", bound="Subject[Any]")


@dataclass(frozen=True)
class Subject(ABC, Generic[PluginT]):
    """A plugin on trial.

    Attributes:
        plugin: its class.
        options: the options it is tried with, as a spec would give them; small ones make the suite quick.
        requires: modules that have to be installed for it to work.
    """

    plugin: type[PluginT]
    options: Mapping[str, Any] = field(default_factory=dict)
    requires: Sequence[str] = ()

    def validated(self) -> PluginOptions:
        """The options as the plugin gets them. Raises DoesNotApply if a module is missing that the plugin needs."""
        if missing := [module for module in self.requires if find_spec(module) is None]:
            raise DoesNotApply(f"needs {', '.join(missing)}, which is not installed")
        return self.plugin.options_model.model_validate(dict(self.options))

    @abstractmethod
    def exercise(self) -> None:
        """Use the plugin once as a run would, from construction to its last method."""


Law = Callable[[SubjectT], None]


@dataclass(frozen=True)
class Verdict:
    """What came of trying a plugin against one law.

    Attributes:
        law: name of the law.
        outcome: ``broken``, also if a failure was expected and the law holds: then the declaration is wrong.
        reason: why, in one line; empty if it holds.
    """

    law: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Suite(Generic[SubjectT]):
    """The laws of one kind.

    Attributes:
        subject: makes the subject of a plugin class, its options and what it requires.
        laws: what is demanded, in the order in which it is tried.
    """

    subject: Callable[[type[Any], Mapping[str, Any], Sequence[str]], SubjectT]
    laws: tuple[Law[SubjectT], ...]

    def verdicts(self, subject: SubjectT, expected_failures: Mapping[str, str]) -> Iterator[Verdict]:
        """One verdict a law, as they are reached. Raises PluginError if an expected failure is of no law."""
        names = [law.__name__ for law in self.laws]
        for name in expected_failures:
            if name not in names:
                raise PluginError(f"expected_failures: there is no law {name!r}{did_you_mean(name, names)}")
        for law in self.laws:
            yield verdict_on(law, subject, expected_failures.get(law.__name__))

    def check(
        self,
        plugin: type[Plugin[Any]],
        options: Mapping[str, Any] | None,
        expected_failures: Mapping[str, str] | None,
    ) -> list[Verdict]:
        """All verdicts on a plugin. Raises LawBroken, one line a law, if any is broken."""
        verdicts = list(self.verdicts(self.subject(plugin, options or {}, ()), expected_failures or {}))
        if broken := [f"{verdict.law}: {verdict.reason}" for verdict in verdicts if verdict.outcome == "broken"]:
            raise LawBroken("\n".join([f"{plugin.__name__} breaks {len(broken)} of {len(verdicts)} laws", *broken]))
        return verdicts


def verdict_on(law: Law[SubjectT], subject: SubjectT, expected: str | None) -> Verdict:
    """What comes of trying a subject against one law; ``expected`` is the reason why it is known to break it."""
    try:
        law(subject)
    except DoesNotApply as reason:
        return Verdict(law.__name__, "does not apply", str(reason))
    except (Exception, SystemExit) as error:  # noqa: BLE001  a plugin may raise anything
        return Verdict(law.__name__, "broken" if expected is None else "expected failure", expected or one_line(error))
    if expected is None:
        return Verdict(law.__name__, "holds")
    return Verdict(law.__name__, "broken", f"declared as an expected failure ({expected}), but it holds")


def one_line(error: BaseException) -> str:
    """What went wrong, in one line; with the type unless it is a broken law, which says it all."""
    message = " ".join(str(error).split())
    return message if isinstance(error, LawBroken) else f"{type(error).__name__}: {message}"


class Conformance:
    """Base of the conformance classes: a test method for every law of the kind.

    Inherit from the class of the kind and name the plugin; pytest does the rest::

        class TestRidge(PredictorConformance):
            plugin = Ridge
            options = {"penalty": 0.5}

    Attributes:
        plugin: the class on trial.
        options: the options it is tried with.
        expected_failures: laws it is known to break, each with the reason. Such a test is reported as xfailed, and
            fails if the law holds after all.
    """

    plugin: ClassVar[type[Plugin[Any]]]
    options: ClassVar[Mapping[str, Any]] = {}
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, suite: Suite[Any] | None = None, **kwargs: Any) -> None:
        """Add the test methods of a suite, for the classes that name one."""
        super().__init_subclass__(**kwargs)
        for law in suite.laws if suite else ():
            setattr(cls, f"test_{law.__name__}", _test_of(law, cast(Suite[Any], suite)))


def _test_of(law: Law[Any], suite: Suite[Any]) -> Callable[[Conformance], None]:
    def test(self: Conformance) -> None:
        import pytest

        expected = self.expected_failures.get(law.__name__)
        try:
            law(suite.subject(self.plugin, self.options, ()))
        except DoesNotApply as reason:
            pytest.skip(str(reason))
        except Exception:
            if expected is None:
                raise
            pytest.xfail(expected)
        if expected is not None:
            pytest.fail(f"declared as an expected failure ({expected}), but it holds: remove the declaration")

    test.__doc__ = law.__doc__
    test.__name__ = f"test_{law.__name__}"
    return test
