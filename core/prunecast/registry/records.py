"""Records that go into the registry and come out of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, groupby
from typing import Any, Literal

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.shape import ComponentCost, LayerCost, ModelShape
from prunecast.errors import PrunecastError, RegistryError
from prunecast.keys import canonical_json, content_key
from prunecast.models.pruned.lineage import Lineage
from prunecast.plugins.interfaces import Measurement

RunStatus = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class ModelRecord:
    """A dense model.

    Attributes:
        fingerprint: hexadecimal content hash of its config and weights.
        source: alias, Hub id, folder or file it came from. Not part of its identity.
        shape: its sizes.
        revision: exact commit of a Hub model, else None. Not part of its identity.
        lineage: the models it was made from by pruning, the original first. Not part of its identity.
    """

    fingerprint: str
    source: str
    shape: ModelShape
    revision: str | None = None
    lineage: Lineage = ()


@dataclass(frozen=True)
class PluginRecord:
    """A pruner or an evaluator as it was used.

    Attributes:
        name: name after ``use:`` in the spec.
        version: the plugin's ``version``.
        options: its validated options, JSON-able.
        data_hash: hexadecimal hash of the tokens it reads (calibration or test); None if it reads none.
        distribution: the distribution that provides it. Not part of its identity.
        code_hash: hexadecimal hash of its code if it is a local file, and of a pruner also of the description of the
            model's family unless that is bundled; None if it is installed.
    """

    name: str
    version: int
    options: dict[str, Any]
    data_hash: str | None
    distribution: str
    code_hash: str | None = None

    @property
    def key(self) -> str:
        """Content key of all that can change a number: name, version, options, data hash and, if local, code hash."""
        content = {"name": self.name, "version": self.version, "options": self.options, "data_hash": self.data_hash}
        return content_key(content if self.code_hash is None else {**content, "code_hash": self.code_hash})


@dataclass(frozen=True)
class Setting:
    """Conditions of an evaluation: together with an architecture they determine the measured numbers.

    Attributes:
        model: the dense model.
        pruner: plugin that ranks its units.
        evaluator: plugin that measures.
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
    """A measured architecture.

    Attributes:
        setting: model, pruner, evaluator and dtype it was measured under.
        architecture: the architecture.
        measurements: at least one, each of another metric. Numbers may be numpy or torch scalars.
        seconds: duration of the evaluation.
        device: device it was measured on, e.g. ``cpu`` or ``cuda``.
        versions: versions of what measured it, as :func:`prunecast.registry.recording.versions` gives them; those of
            this process if not given.
    """

    setting: Setting
    architecture: Architecture
    measurements: Sequence[Measurement]
    seconds: float
    device: str
    versions: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Recorded:
    """A measured number of the registry.

    Attributes:
        value: the number, finite.
        standard_error: its standard error in the same unit; None if unknown.
        count: number of tokens or questions it was measured on.
    """

    value: float
    standard_error: float | None
    count: int


@dataclass(frozen=True)
class Failure:
    """An architecture that could not be measured: the reason of the last failed attempt and the number of attempts."""

    reason: str
    attempts: int


@dataclass(frozen=True)
class RunRecord:
    """A run of the registry.

    Attributes:
        id: number inside this registry.
        key: content key of the spec.
        name: name from the spec.
        status: its status; ``interrupted`` also if its process is gone without having recorded that.
        started_utc, finished_utc: e.g. ``2025-01-31T12:00:00Z``; ``finished_utc`` is None until it ends.
        spec_json, spec_text: the resolved spec, and the text of the spec file.
        result: result of the last time the run finished, kept if it is started again; None if it never has.
        message: reason it failed or stopped, else empty.
        identity: hashes of everything that its numbers depend on, by description; empty for runs of schema versions
            before 8.
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
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """Number, name and start, e.g. ``run 3 (smollm2) of 2025-01-31T12:00:00Z``."""
        return f"run {self.id} ({self.name}) of {self.started_utc}"


@dataclass(frozen=True)
class RunStart:
    """A started run.

    Attributes:
        id: its id.
        earlier: the run of the same spec and identity that the registry already had, as it was before; None for a new
            one.
        changed: what changed since the first run of the spec, if that has another identity; else empty.
    """

    id: int
    earlier: RunRecord | None = None
    changed: str = ""

    @property
    def resumed(self) -> bool:
        """True if the registry already had a run of the same spec and identity."""
        return self.earlier is not None


BOS_FAMILIES = ("gemma", "gemma2", "gemma3_text")
"""Families whose models need a beginning-of-sequence token although their recorded sizes may not say so."""


@dataclass(frozen=True)
class Timing:
    """Conditions of a table of component times.

    Attributes:
        shape: sizes of the dense model; their context does not matter.
        sizes: what is timed, JSON-able.
        device: name of the device.
        dtype: number format.
        threads: threads of torch.
        batch, context: sequences, and tokens of each.
        engine: what the models run in, with its versions.
    """

    shape: ModelShape
    sizes: Any
    device: str
    dtype: str
    threads: int
    batch: int
    context: int
    engine: str

    @property
    def conditions(self) -> tuple[object, ...]:
        """All but the sizes: family, device, dtype, threads, batch, context and engine."""
        here = (self.device, self.dtype, self.threads, self.batch, self.context, self.engine)
        return (self.shape.family, *here)

    @property
    def key(self) -> str:
        """Content key. Weights do not matter, so models of the same sizes share their table."""
        return content_key([shape_to_json(self.shape.at(self.context)), self.sizes, *self.conditions])


def shape_to_json(shape: ModelShape) -> str:
    """A model's sizes as canonical JSON.

    Costs of components are ``attention`` and ``mlp`` if all layers have the same and nothing else, and otherwise
    ``layers``, where equal neighbours are one entry with their ``count``. What is not there is left out: ``shared`` of
    0, ``window`` of None, and ``bos`` where it follows from the family. So the sizes of a model have one form, that of
    the versions in which all layers were alike.
    """
    sizes = {name: value for name, value in vars(shape).items() if name in _COUNTS} | {"family": shape.family}
    first = shape.layers[0]
    if first == LayerCost(first.attention, first.mlp) and shape.layers.count(first) == len(shape.layers):
        costs: dict[str, Any] = {"attention": asdict(first.attention), "mlp": asdict(first.mlp)}
    else:
        costs = {"layers": [_run_of(layer, len(list(equal))) for layer, equal in groupby(shape.layers)]}
    bos = {} if shape.bos == (shape.family in BOS_FAMILIES) else {"bos": shape.bos}
    return canonical_json({**sizes, "dense": asdict(shape.dense), **costs, **bos})


def _run_of(layer: LayerCost, count: int) -> dict[str, Any]:
    given = {name: value for name, value in asdict(layer).items() if value not in (0, None)}
    return {**given, "count": count}


_COUNTS = ("hidden_size", "head_dim", "vocabulary", "context", "embeddings", "fixed")

LARGEST_SIZE = 2**48
"""Largest size or parameter count of a model that is believed."""


@lru_cache(maxsize=64)
def shape_from_json(text: str) -> ModelShape:
    """Inverse of :func:`shape_to_json`. Raises RegistryError if the text is not the sizes of a model."""
    try:
        sizes = json.loads(text)
        dense, family = Architecture(sizes.pop("dense")["layers"]), sizes.pop("family")
        bos = sizes.pop("bos", family in BOS_FAMILIES)
        depth = len(dense.layers)
        layers = _layers_from(sizes.pop("layers", None) or [_only_run(sizes, depth)], depth)
        shape = ModelShape(family=family, dense=dense, layers=layers, bos=bos, **sizes)
        counts = [*sizes.values(), shape.vocabulary * shape.hidden_size, *chain.from_iterable(dense.layers)]
        if not isinstance(family, str) or type(bos) is not bool or not all(map(_is_size, counts)):
            raise ValueError("a size is no whole number, or is too large")
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RegistryError(f"{text[:60]!r} is not the sizes of a model ({error}); the registry is damaged") from error
    return shape


def _only_run(sizes: dict[str, Any], depth: int) -> dict[str, Any]:
    """The one entry of a model whose layers are all alike, taken out of its sizes."""
    return {"attention": sizes.pop("attention"), "mlp": sizes.pop("mlp"), "count": depth}


def _layers_from(runs: Sequence[Mapping[str, Any]], depth: int) -> tuple[LayerCost, ...]:
    """Costs of each layer from the entries of :func:`shape_to_json`. Raises ValueError if they are not ``depth``."""
    counts = [run["count"] for run in runs]
    if not all(_is_size(count) and count for count in counts) or sum(counts) != depth:
        raise ValueError(f"the costs are not those of {depth} layers")
    layers: list[LayerCost] = []
    for run in runs:
        given: dict[str, Any] = {name: value for name, value in run.items() if name != "count"}
        layer = LayerCost(ComponentCost(**given.pop("attention")), ComponentCost(**given.pop("mlp")), **given)
        numbers = [*vars(layer.attention).values(), *vars(layer.mlp).values(), layer.shared]
        if not all(map(_is_size, numbers)) or not (layer.window is None or (_is_size(layer.window) and layer.window)):
            raise ValueError("a cost of a layer is no whole number, or is too large")
        layers += [layer] * run["count"]
    return tuple(layers)


def _is_size(number: object) -> bool:
    return type(number) is int and 0 <= number < LARGEST_SIZE


@contextmanager
def reading_result(run: RunRecord) -> Iterator[None]:
    """Raise RegistryError if the spec or the result of a run is not of the form that prunecast writes.

    Both are JSON in the registry, and may have been written by anyone.
    """
    try:
        yield
    except PrunecastError:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        StopIteration,
    ) as error:
        raise RegistryError(
            f"run {run.id} ({run.name}): its spec or result is not of the form that prunecast writes "
            f"({type(error).__name__}: {error}); run its spec again"
        ) from error


def utc_text(seconds_from_now: float = 0.0) -> str:
    """The current time, shifted by some seconds, in the format ``2025-01-31T12:00:00Z``."""
    return (datetime.now(UTC) + timedelta(seconds=seconds_from_now)).strftime("%Y-%m-%dT%H:%M:%SZ")


def exports_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Reports of the exports of a run as the registry keeps them; of earlier versions there is one, for huggingface."""
    first = record.get("export")
    listed: list[dict[str, Any]] = record.get("exports", [first] if first else [])
    return listed
