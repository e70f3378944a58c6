"""The laws that every plugin has to keep, whatever its kind."""

import contextlib
import io
import random
from typing import Any

import numpy as np
from pydantic import ValidationError

from prunecast.testing.checks import DoesNotApply, Law, Subject, hold
from prunecast.testing.subprocesses import heavy_imports

HEAVY = frozenset(
    {"catboost", "datasets", "jax", "lightgbm", "optuna", "sklearn", "tensorflow", "torch", "transformers"}
)
"""Modules that take long to import, and that a plugin's module therefore imports inside its methods."""


def class_is_documented_and_versioned(subject: Subject[Any]) -> None:
    """The class has a docstring of its own, and ``version`` is a whole number from 1 on."""
    plugin = subject.plugin
    hold(plugin.__doc__, f"{plugin.__name__} has no docstring: plugins show prints it")
    hold(type(plugin.version) is int and plugin.version >= 1, f"version is {plugin.version!r}, not a number from 1 on")


def every_option_is_described(subject: Subject[Any]) -> None:
    """Every option has a description, which is its help in ``plugins show`` and in the JSON schema."""
    fields = subject.plugin.options_model.model_fields
    silent = [name for name, field in fields.items() if not field.description]
    hold(not silent, f"options without Field(description=...): {', '.join(silent)}")


def unknown_option_is_refused(subject: Subject[Any]) -> None:
    """An option that does not exist is a validation error, not ignored."""
    try:
        subject.plugin.options_model.model_validate({**subject.options, "no_such_option": 1})
    except ValidationError:
        return
    hold(False, "an unknown option is accepted: derive options from PluginOptions and leave its model_config alone")


def options_survive_json(subject: Subject[Any]) -> None:
    """Options written as JSON and read again are the same: registry keys and redelivery depend on it."""
    options = subject.validated()
    again = type(options).model_validate_json(options.model_dump_json())
    hold(again == options, f"options {options!r} come back from JSON as {again!r}")


def options_do_not_change_after_validation(subject: Subject[Any]) -> None:
    """Options are frozen."""
    options = subject.validated()
    names = list(type(options).model_fields)
    if not names:
        raise DoesNotApply("the plugin has no options")
    try:
        setattr(options, names[0], getattr(options, names[0]))
    except ValidationError:
        return
    hold(False, "options can be assigned to: derive them from PluginOptions and leave its model_config alone")


def immaterial_options_exist(subject: Subject[Any]) -> None:
    """``immaterial`` names options that there are: a misspelt one would silently split the registry."""
    model = subject.plugin.options_model
    unknown = set(model.immaterial) - set(model.model_fields)
    hold(not unknown, f"immaterial names {', '.join(sorted(unknown))}, which are no options")


def importing_it_imports_nothing_heavy(subject: Subject[Any]) -> None:
    """Importing the plugin's module imports neither torch nor other libraries that take seconds."""
    module = subject.plugin.__module__
    if module == "__main__":
        raise DoesNotApply("the plugin is defined in the main module")
    found = heavy_imports(module, HEAVY)
    hold(not found, f"importing {module} imports {', '.join(found)}: import them inside methods")


def nothing_is_printed_to_stdout(subject: Subject[Any]) -> None:
    """Stdout carries the data of a command, so a plugin leaves it alone."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        subject.exercise()
    hold(not printed.getvalue(), f"it printed {printed.getvalue()[:60]!r}: use logging or warnings")


def global_random_state_is_neither_used_nor_changed(subject: Subject[Any]) -> None:
    """Randomness comes from the seed or generator passed in, and the global generators are left as found."""
    before = _global_random_states()
    subject.exercise()
    after = _global_random_states()
    hold(before == after, "the global generator of random or numpy has moved: draw from the one passed in")


def _global_random_states() -> tuple[str, str]:
    return repr(random.getstate()), repr([np.asarray(part).tolist() for part in np.random.get_state()])  # noqa: NPY002


COMMON_LAWS: tuple[Law[Any], ...] = (
    class_is_documented_and_versioned,
    every_option_is_described,
    unknown_option_is_refused,
    options_survive_json,
    options_do_not_change_after_validation,
    immaterial_options_exist,
    importing_it_imports_nothing_heavy,
    nothing_is_printed_to_stdout,
    global_random_state_is_neither_used_nor_changed,
)


def same(left: Any, right: Any) -> bool:
    """Whether two results are the same to the last bit, NaN equal to NaN; arrays, options, and sequences of them."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return bool(np.array_equal(left, right, equal_nan=True))
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    return bool(left == right)
