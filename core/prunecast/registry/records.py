"""What goes into the registry and what comes out of it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ComponentCost, ModelShape
from prunecast.keys import canonical_json, content_key
from prunecast.plugins.interfaces import Measurement

RunStatus = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class ModelRecord:
    """A dense model.

    Attributes:
        fingerprint: hexadecimal content hash of its config and weights.
        source: alias, Hub id, folder or file it came from. Not part of its identity.
        shape: its sizes.
    """

    fingerprint: str
    source: str
    shape: ModelShape


@dataclass(frozen=True)
class PluginRecord:
    """A pruner or an evaluator as it was used.

    Attributes:
        name: what the spec writes after ``use:``.
        version: the plugin's ``version``.
        options: its validated options, JSON-able.
        data_hash: hexadecimal hash of the tokens it looks at (calibration or test); None if it looks at none.
        distribution: the distribution that brought it. Not part of its identity.
        code_hash: hexadecimal hash of its code, if that is a local file without a version of its own; None if not.
    """

    name: str
    version: int
    options: dict[str, Any]
    data_hash: str | None
    distribution: str
    code_hash: str | None = None

    @property
    def key(self) -> str:
        """Content key of everything that can change a number: name, version, options, data, and code if it is local."""
        content = {"name": self.name, "version": self.version, "options": self.options, "data_hash": self.data_hash}
        return content_key(content if self.code_hash is None else {**content, "code_hash": self.code_hash})


@dataclass(frozen=True)
class Setting:
    """What an evaluation is made under: together with an architecture it determines the measured numbers.

    Attributes:
        model: the dense model.
        pruner: what ranks its units.
        evaluator: what measures.
        dtype: number format of the weights while measuring, e.g. ``bfloat16``.
    """

    model: ModelRecord
    pruner: PluginRecord
    evaluator: PluginRecord
    dtype: str

    @property
    def key(self) -> str:
        """Content key of the whole setting."""
        return content_key([self.model.fingerprint, self.pruner.key, self.evaluator.key, self.dtype])


@dataclass(frozen=True)
class Evaluation:
    """An architecture that has been measured.

    Attributes:
        setting: what it was measured under.
        architecture: what was measured.
        measurements: at least one, each of another metric. Numbers may be numpy or torch scalars.
        seconds: how long that took.
        device: where it was measured, e.g. ``cpu`` or ``cuda``.
    """

    setting: Setting
    architecture: Architecture
    measurements: Sequence[Measurement]
    seconds: float
    device: str


@dataclass(frozen=True)
class Recorded:
    """A measured number as the registry holds it: finite ``value``, its standard error in the same unit (None if
    unknown) and the number of tokens or questions behind it."""

    value: float
    standard_error: float | None
    count: int


@dataclass(frozen=True)
class Failure:
    """An architecture that could not be measured: why the last attempt failed, and how many there were."""

    reason: str
    attempts: int


@dataclass(frozen=True)
class RunStart:
    """A run that has just been started: its id, and whether a run of the same spec was there before."""

    id: int
    resumed: bool


@dataclass(frozen=True)
class RunRecord:
    """A run as the registry holds it.

    Attributes:
        id: number inside this registry.
        key: content key of the spec.
        name: name from the spec.
        status: how it stands; a killed process leaves ``running`` behind.
        started_utc, finished_utc: ``2025-01-31T12:00:00Z``; not finished: None.
        spec_json, spec_text: the resolved spec, and the file as it was written.
        result: what the run came to when it last finished, whatever its status is now; None if it never has.
        message: why it failed, else empty.
    """

    id: int
    key: str
    name: str
    status: RunStatus
    started_utc: str
    finished_utc: str | None
    spec_json: str
    spec_text: str
    result: dict[str, Any] | None
    message: str


def shape_to_json(shape: ModelShape) -> str:
    """A model's sizes as canonical JSON."""
    return canonical_json(asdict(shape))


def shape_from_json(text: str) -> ModelShape:
    """Inverse of :func:`shape_to_json`."""
    sizes = json.loads(text)
    components = {name: ComponentCost(**sizes[name]) for name in ("attention", "mlp")}
    return ModelShape(**sizes | components | {"dense": Architecture(sizes["dense"]["layers"])})


def utc_text(seconds_from_now: float = 0.0) -> str:
    """``2025-01-31T12:00:00Z``."""
    return (datetime.now(UTC) + timedelta(seconds=seconds_from_now)).strftime("%Y-%m-%dT%H:%M:%SZ")
