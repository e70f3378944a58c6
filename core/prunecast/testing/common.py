"""Checks that plugins of every kind have to pass."""

import contextlib
import io
import random
from typing import Any

import numpy as np
from pydantic import ValidationError

from prunecast.testing.checks import Check, DoesNotApply, Subject, require
from prunecast.testing.subprocesses import heavy_imports

HEAVY = frozenset(
    {"catboost", "datasets", "jax", "lightgbm", "optuna", "sklearn", "tensorflow", "torch", "transformers"}
)
"""Modules that are slow to import, so a plugin's module has to import them inside its methods."""


def class_is_documented_and_versioned(subject: Subject[Any]) -> None:
    """The class has a docstring of its own, and ``version`` is an integer of at least 1."""
    plugin = subject.plugin
    require(plugin.__doc__, f"{plugin.__name__} has no docstring: plugins show prints it")
    require(
        type(plugin.version) is int and plugin.version >= 1,
        f"version is {plugin.version!r}, not an integer of at least 1",
    )


def every_option_is_described(subject: Subject[Any]) -> None:
    """Every option has a description, which ``plugins show`` and the JSON schema display."""
    fields = subject.plugin.options_model.model_fields
    silent = [name for name, field in fields.items() if not field.description]
    require(not silent, f"options without Field(description=...): {', '.join(silent)}")


def unknown_option_is_refused(subject: Subject[Any]) -> None:
    """An unknown option is a validation error; it is not ignored."""
    try:
        subject.plugin.options_model.model_validate({**subject.options, "no_such_option": 1})
    except ValidationError:
        return
    require(False, "an unknown option is accepted: derive options from PluginOptions and leave its model_config alone")


def options_survive_json(subject: Subject[Any]) -> None:
    """Options written as JSON and read back are equal: registry keys and repeated exports depend on it."""
    options = subject.validated()
    again = type(options).model_validate_json(options.model_dump_json())
    require(again == options, f"options {options!r} come back from JSON as {again!r}")


def options_do_not_change_after_validation(subject: Subject[Any]) -> None:
    """Options are frozen: assignment raises a validation error."""
    options = subject.validated()
    names = list(type(options).model_fields)
    if not names:
        raise DoesNotApply("the plugin has no options")
    try:
        setattr(options, names[0], getattr(options, names[0]))
    except ValidationError:
        return
    require(False, "options can be assigned to: derive them from PluginOptions and leave its model_config alone")


def immaterial_options_exist(subject: Subject[Any]) -> None:
    """``immaterial`` names existing options only; a misspelt name leaves its option in the registry key."""
    model = subject.plugin.options_model
    unknown = set(model.immaterial) - set(model.model_fields)
    require(not unknown, f"immaterial names {', '.join(sorted(unknown))}, which are no options")


def importing_it_imports_nothing_heavy(subject: Subject[Any]) -> None:
    """Importing the plugin's module imports neither torch nor another slow library."""
    module = subject.plugin.__module__
    if module == "__main__":
        raise DoesNotApply("the plugin is defined in the main module")
    found = heavy_imports(module, HEAVY)
    require(not found, f"importing {module} imports {', '.join(found)}: import them inside methods")


def nothing_is_printed_to_stdout(subject: Subject[Any]) -> None:
    """The plugin prints nothing to stdout, which carries the data of a command."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        subject.exercise()
    require(not printed.getvalue(), f"it printed {printed.getvalue()[:60]!r}: use logging or warnings")


def global_random_state_is_neither_used_nor_changed(subject: Subject[Any]) -> None:
    """Randomness comes from the seed or generator passed in; the global generators keep their state."""
    before = _global_random_states()
    subject.exercise()
    after = _global_random_states()
    require(
        before == after,
        "the state of a global generator of random or numpy has changed: draw from the generator passed in",
    )


def _global_random_states() -> tuple[str, str]:
    return repr(random.getstate()), repr([np.asarray(part).tolist() for part in np.random.get_state()])  # noqa: NPY002


COMMON_CHECKS: tuple[Check[Any], ...] = (
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
    """True if two results are equal to the last bit, NaN equal to NaN; takes arrays, options, and sequences of them."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return bool(np.array_equal(left, right, equal_nan=True))
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    return bool(left == right)
