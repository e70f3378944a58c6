"""Classes that a spec names by import path: import rules, and conversion of their parameters to options.

A spec may come from an untrusted source, and importing a module executes its code. Therefore

- only modules of known packages are imported: those that an :class:`Importable` lists, and those that an installed
  distribution registers in the entry-point group :data:`GROUP`;
- the path names a class of a public module, without going through an attribute of a module or class;
- the class derives from the base class that the option requires, and is defined in one of those packages;
- values are plain data, or instances of classes found under the same rules: a mapping with ``class: PATH`` and the
  parameters beside it. Text is never converted to a function.

The first rule alone excludes ``os.system``, ``builtins.eval`` and ``subprocess.Popen``.
"""

import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any, ClassVar

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from prunecast.plugins import PluginOptions

GROUP = "prunecast.importable"
"""Entry-point group in which a distribution registers a top-level package: ``mylib = "mylib"``."""

CLASS = "class"
"""Key of a mapping in a spec that stands for an instance of the named class."""

_PATH = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")


@dataclass(frozen=True)
class Importable:
    """The classes that one option may name.

    Attributes:
        what: name of such a class in messages, with its article.
        bases: ``module:class`` of the base classes, of which a class must have one.
        packages: allowed top-level packages, in addition to those registered in :data:`GROUP`.
        home: module of the classes that may be named without a module; empty if there is none.
    """

    what: str
    bases: tuple[str, ...]
    packages: tuple[str, ...]
    home: str = ""

    def find(self, path: object) -> type[Any]:
        """The class at ``path``. Raises a one-line ValueError if the rules of this module forbid it.

        The message distinguishes a package that is not installed from one that is not allowed.
        """
        if self.home and isinstance(path, str) and path.isidentifier():
            path = f"{self.home}.{path}"
        if not isinstance(path, str) or not _PATH.fullmatch(path):
            raise ValueError(f"{path!r} is not an import path of {self.what}: write PACKAGE.MODULE.CLASS")
        package, (module_name, _, name) = path.split(".")[0], path.rpartition(".")
        allowed = self._allowed()
        if package not in allowed:
            raise ValueError(
                f"{path!r} may not be imported: {self.what} comes from {', '.join(sorted(allowed))}, or from a "
                f"distribution that offers its package in the entry-point group {GROUP}"
            )
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise ValueError(f"{path!r} cannot be imported: {' '.join(str(error).split())}") from error
        found = vars(module).get(name)
        if not self.fits(found, allowed):
            reason = "does not exist" if found is None else f"is not {self.what}"
            raise ValueError(f"{path!r} {reason}{self._nearest(module, name, allowed)}")
        return typing.cast(type[Any], found)

    def _allowed(self) -> set[str]:
        return {*self.packages, *(point.name for point in entry_points(group=GROUP))}

    def fits(self, found: object, packages: Iterable[str]) -> bool:
        """True if ``found`` is a concrete class that may be named and is defined in one of the top-level packages."""
        if not isinstance(found, type) or inspect.isabstract(found):
            return False
        bases = tuple(pkgutil.resolve_name(base) for base in self.bases)
        return issubclass(found, bases) and found not in bases and found.__module__.split(".")[0] in packages

    def _nearest(self, module: object, name: str, allowed: Iterable[str]) -> str:
        fitting = [other for other, found in vars(module).items() if self.fits(found, allowed)]
        near = get_close_matches(name, fitting, n=1)
        return f" (did you mean {near[0]!r}?)" if near else ""

    def build(self, value: Any, fill: Mapping[str, Any]) -> Any:
        """A value of a spec with an instance in place of every ``{class: PATH, ...}``. Raises ValueError.

        Args:
            value: plain data.
            fill: parameters for every instance whose class has them; those in the spec take precedence.
        """
        if isinstance(value, Mapping) and CLASS in value:
            found, parameters = self.find(value[CLASS]), parameters_of(self.find(value[CLASS]))
            given = {name: part for name, part in value.items() if name != CLASS}
            if unknown := sorted(set(given) - set(parameters)):
                raise ValueError(unknown_parameter(found, unknown[0], parameters))
            return found(**_filled(parameters, {n: self.build(part, fill) for n, part in given.items()}, fill))
        if isinstance(value, Mapping):
            return {name: self.build(part, fill) for name, part in value.items()}
        return [self.build(part, fill) for part in value] if isinstance(value, list | tuple) else value


class NamedClassOptions(PluginOptions):
    """Base of plugin options that name a class.

    Options that are no field of it are passed to that class as parameters.

    Attributes:
        importable: the classes that may be named.
        naming: name of the field that holds the import path.
        withheld: parameters of the class that a spec may not set, such as its seed.
    """

    model_config = ConfigDict(extra="allow")

    importable: ClassVar[Importable]
    naming: ClassVar[str]
    withheld: ClassVar[frozenset[str]]

    @classmethod
    def named_code(cls, options: Mapping[str, Any]) -> Iterator[str]:
        """The named class, and those of nested instances.

        Packages from a hub are skipped, as ``trust_remote_code`` governs them.
        """
        name = options.get(cls.naming)
        if isinstance(name, str) and "/" not in name:
            yield name
        yield from _nested_classes(list(options.values()))

    @property
    def named_class(self) -> type[Any]:
        """The named class."""
        return self.importable.find(getattr(self, self.naming))

    @property
    def given(self) -> dict[str, Any]:
        """Parameters of the class in the spec, as plain data."""
        return dict(self.model_extra or {})

    def instance(self, **fill: Any) -> Any:
        """A fresh instance of the named class.

        Args:
            fill: parameters, such as a seed, for it and for every nested instance whose class has them.
        """
        found = self.named_class
        arguments = {name: self.importable.build(value, fill) for name, value in self.given.items()}
        return found(**_filled(parameters_of(found), arguments, fill))

    def error_of_value(self, name: str, value: Any) -> str:
        """Error message for the value of one parameter; empty if no error is found.

        ``value`` has instances in place of every ``{class: PATH}``. The default checks it against the annotation.
        """
        wanted = _annotation(self.named_class, name)
        if wanted is inspect.Parameter.empty:
            return ""
        try:
            adapter = TypeAdapter(wanted, config=ConfigDict(arbitrary_types_allowed=True, strict=True))
            adapter.validate_python(value)
        except ValidationError as error:
            return f"{self.named_class.__name__}: {error.errors()[0]['msg']}"
        except PydanticUserError:
            return ""  # pydantic cannot validate against this annotation
        return ""

    @model_validator(mode="after")
    def _check_class_and_parameters(self) -> "NamedClassOptions":
        problems = list(self._problems())
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self

    def _problems(self) -> Iterator[InitErrorDetails]:
        try:
            found = self.named_class
        except ValueError as error:
            yield _problem((self.naming,), str(error), getattr(self, self.naming))
            return
        known = {n: p for n, p in parameters_of(found).items() if n not in {*self.withheld, *type(self).model_fields}}
        for name, value in self.given.items():
            if name not in known:
                yield _problem((name, "[key]"), unknown_parameter(found, name, known), value)
            elif wrong := self._wrong(name, value):
                yield _problem((name,), wrong, value)
        for name, default in known.items():
            if default is inspect.Parameter.empty and name not in self.given:
                yield InitErrorDetails(type="missing", loc=(name,), input=self.given)

    def _wrong(self, name: str, value: Any) -> str:
        try:
            return self.error_of_value(name, self.importable.build(value, {}))
        except (ValueError, TypeError) as error:
            return _first_line(error)


def _nested_classes(value: Any) -> Iterator[str]:
    """Import paths of all ``{class: PATH}`` in plain data."""
    if isinstance(value, Mapping):
        if isinstance(value.get(CLASS), str):
            yield value[CLASS]
        value = list(value.values())
    for part in value if isinstance(value, list) else ():
        yield from _nested_classes(part)


def parameters_of(found: type[Any]) -> dict[str, Any]:
    """Names and defaults of a class's parameters; ``inspect.Parameter.empty`` marks those without a default.

    The parameters that a scikit-learn estimator takes as ``**kwargs`` come from its ``get_params``.
    """
    parameters = inspect.signature(found).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    named = {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    if inspect.Parameter.VAR_KEYWORD in kinds and hasattr(found, "get_params"):
        named |= {name: value for name, value in found().get_params(deep=False).items() if name not in named}
    return named


def _filled(parameters: Mapping[str, Any], given: Mapping[str, Any], fill: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in fill.items() if name in parameters}, **given}


def unknown_parameter(found: type[Any], name: str, known: Iterable[str]) -> str:
    """Error message for a parameter that a class does not have."""
    near = get_close_matches(name, known, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown option {name!r}{guess}; {found.__name__} takes: {', '.join(sorted(known)) or 'none'}"


def _annotation(found: type[Any], name: str) -> Any:
    """Annotation of a parameter; ``inspect.Parameter.empty`` if there is none or it cannot be evaluated."""
    parameter = inspect.signature(found).parameters.get(name)
    if parameter is None or not isinstance(parameter.annotation, str):
        return inspect.Parameter.empty if parameter is None else parameter.annotation
    holder: Any = SimpleNamespace(__annotations__={name: parameter.annotation})
    try:
        return typing.get_type_hints(holder, globalns=vars(importlib.import_module(found.__module__)))[name]
    except (NameError, SyntaxError, TypeError):  # it refers to names imported for type checking only
        return inspect.Parameter.empty


def _problem(location: tuple[str, ...], message: str, value: object) -> InitErrorDetails:
    return InitErrorDetails(
        type=PydanticCustomError("named_class", "{message}", {"message": message}), loc=location, input=value
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
