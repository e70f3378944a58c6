"""Identities of runs: hashes of everything that the numbers of a run depend on, by description.

A description is a noun phrase that stands in messages, e.g. ``the model`` or ``the code of evaluator.py``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODEL = "the model (weights or config)"
FAMILY = "the description of the model's family, or the code of its classes"
TOKENIZER = "the tokenizer"
DTYPE = "the dtype of the measurements"
CALIBRATION = "the pruner's calibration text"
COMPENSATION = "the calibration text of the pruner or its compensation"
RECOVERY = "the text of the recovery"


def data_part(evaluator: str, options: Mapping[str, Any]) -> str:
    """Description of the data of an evaluator; the options are those that differ from their defaults."""
    own = {name: value for name, value in options.items() if isinstance(value, str | int | float)}
    return f"the data of {' '.join([evaluator, *(f'{name}={value}' for name, value in own.items())])}"


def code_part(owner: str) -> str:
    """Description of the code of a local plugin; ``owner`` is its path and the beginning of its hash."""
    return f"the code of {Path(owner.rpartition(' ')[0] or owner).name}"


def version_part(plugin: str) -> str:
    """Description of the version of a pruner or evaluator."""
    return f"the version of {plugin}"


def what_changed(recorded: Mapping[str, str], today: Mapping[str, str]) -> list[str]:
    """Descriptions of the parts of two identities that differ; parts that only one of them has do not count."""
    return [part for part, value in recorded.items() if part in today and today[part] != value]
