"""Stored evaluations measured again, to verify a registry.

Recovered models are left out: they would have to be trained again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Any

import numpy as np

from prunecast.architecture.architecture import Architecture
from prunecast.errors import PrunecastError, RegistryError
from prunecast.measure.engine import Engine
from prunecast.measure.identity import check_unchanged, identity_of
from prunecast.measure.recorded import Permissions
from prunecast.measure.setup import Setup, spec_as_measured
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.spec.stages import RECOVER
from prunecast.text import counted

SAME_CONDITIONS_TOLERANCE = 1e-3
"""Relative difference allowed on the same kind of device, in the same dtype, with the same torch and transformers.

Evaluators are deterministic, so on one machine the numbers are equal to the last bit. The number of threads and the
instructions of another processor change the order of sums, which moves a perplexity in bfloat16 by a few 1e-4.
"""

OTHER_CONDITIONS_TOLERANCE = 1e-2
"""Relative difference allowed under other conditions if the evaluation has no standard error."""

_REPEATABLE = """
    SELECT e.id, e.run_id, s.dtype FROM evaluations e JOIN settings s ON s.id = e.setting_id
    WHERE e.run_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM run_evaluations u
        WHERE u.evaluation_id = e.id AND u.run_id = e.run_id AND u.stage = :recover
    )
    ORDER BY e.id"""

_SAMPLED = """
    SELECT e.id, e.setting_id, json_group_array(json_array(l.kv_groups, l.heads_per_group, l.mlp_width)) AS layers_json,
        o.device, o.torch, o.transformers
    FROM evaluations e
    JOIN provenances o ON o.id = e.provenance_id
    JOIN architectures a ON a.id = e.architecture_id
    CROSS JOIN json_each(a.layer_ids_json) ids CROSS JOIN layers l ON l.id = ids.value
    WHERE e.id = ?"""

_VALUES = """
    SELECT n.name, x.value, x.standard_error FROM metric_values x JOIN metrics n ON n.id = x.metric_id
    WHERE x.evaluation_id = ?"""


@dataclass(frozen=True)
class Remeasured:
    """A number of the registry and its repetition.

    Attributes:
        evaluation_id: the evaluation it belongs to.
        architecture: the architecture.
        metric: name of the metric.
        recorded, again: stored value and new value.
        tolerance: largest difference that counts as agreement.
    """

    evaluation_id: int
    architecture: Architecture
    metric: str
    recorded: float
    again: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """True if the two differ by at most the tolerance."""
        return abs(self.again - self.recorded) <= self.tolerance


@dataclass(frozen=True)
class LeftOut:
    """Evaluations of a run that cannot be repeated.

    Attributes:
        run: the run, with its name.
        evaluations: number of them.
        reason: why, in one line: its model, data or a plugin is missing or has changed, or its spec names code that is
            not permitted.
    """

    run: str
    evaluations: int
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.run} cannot be repeated: {self.reason} ({counted(self.evaluations, 'evaluation')} left out)"


def remeasure(
    registry: Registry, count: int, seed: int, host: PluginHost, permissions: Permissions, progress: Progress
) -> Iterator[Remeasured | LeftOut]:
    """Measure a random sample of evaluations again, each by the spec of the run that measured it.

    Results are yielded as they are measured. Evaluations of a run that cannot be repeated are left out.

    Args:
        registry: the registry; it is not changed.
        count: number of evaluations.
        seed: draws the sample.
        host: host of the plugins of the specs.
        permissions: code that the specs may execute.
        progress: where progress is shown.
    """
    rows = list(registry.rows(_REPEATABLE, {"recover": RECOVER}))
    rng = np.random.default_rng(seed)
    chosen = sorted((rows[place] for place in rng.permutation(len(rows))[:count]), key=_condition)
    for (run_id, dtype), group in groupby(chosen, key=_condition):
        record = registry.run(run_id)
        progress.say(f"measuring again by the spec of run {run_id} ({record.name}), in {dtype}")
        left = dict.fromkeys(row["id"] for row in group)
        try:
            setup = Setup(spec_as_measured(record, host, permissions, dtype), host)
            check_unchanged(registry, record, identity_of(setup))
            for one in _of_one_run(registry, setup, list(left), progress):
                left.pop(one.evaluation_id, None)
                yield one
        except PrunecastError as error:
            yield LeftOut(f"run {run_id} ({record.name})", len(left), str(error))


def _condition(row: dict[str, Any]) -> tuple[int, str]:
    return row["run_id"], row["dtype"]


def _of_one_run(
    registry: Registry, setup: Setup, evaluation_ids: list[int], progress: Progress
) -> Iterator[Remeasured]:
    evaluators = (*setup.uncompensated_verifiers, *setup.verifiers)
    named_by_setting = {registry.setting_id(named.setting): named for named in evaluators}
    engine = Engine(setup, progress)
    for evaluation_id in evaluation_ids:
        (row,) = registry.rows(_SAMPLED, (evaluation_id,))
        named = named_by_setting.get(row["setting_id"])
        if named is None:
            raise RegistryError(f"evaluation {evaluation_id} was made under another setting than the spec gives today")
        architecture = Architecture.from_json(row["layers_json"])
        measurements, _ = engine.measure(architecture, named)
        again = {measurement.metric.name: measurement.value for measurement in measurements}
        for value in registry.rows(_VALUES, (evaluation_id,)):
            name, recorded = value["name"], value["value"]
            tolerance = _tolerance(row, setup, recorded, value["standard_error"])
            yield Remeasured(evaluation_id, architecture, name, recorded, float(again[name]), tolerance)


def _tolerance(row: dict[str, Any], setup: Setup, recorded: float, standard_error: float | None) -> float:
    here = (str(setup.device), version("torch"), version("transformers"))
    if here == (row["device"], row["torch"], row["transformers"]):
        return SAME_CONDITIONS_TOLERANCE * abs(recorded)
    return OTHER_CONDITIONS_TOLERANCE * abs(recorded) if standard_error is None else standard_error
