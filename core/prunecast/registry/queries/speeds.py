"""Speeds in queries: the tables of component times that a registry has of a model, and the choice among them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from prunecast.architecture.shape import ModelShape
from prunecast.architecture.speed import SpeedTable
from prunecast.errors import RegistryError
from prunecast.registry.records import Timing
from prunecast.registry.store import Registry
from prunecast.text import counted

_TABLES = "SELECT * FROM component_times WHERE family = ? ORDER BY measured_utc, id"


@dataclass(frozen=True)
class Conditions:
    """What a table was measured under; as a choice of tables, None stands for any.

    Attributes:
        device: name of the device.
        threads: threads of torch.
        batch: sequences in a batch.
        context: tokens of each prompt.
    """

    device: str | None = None
    threads: int | None = None
    batch: int | None = None
    context: int | None = None

    def take(self, other: Self) -> bool:
        """True if other conditions are those that are asked for."""
        asked = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return all(one in (None, found) for one, found in asked)

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", {counted(self.threads, 'thread')}"
        return f"batch {self.batch}, context {self.context:,}, {self.device}{threads}"


@dataclass(frozen=True)
class RecordedSpeeds:
    """A table of the registry.

    Attributes:
        conditions: what it was measured under.
        dtype: number format.
        engine: what the models ran in, with its versions.
        table: the table.
    """

    conditions: Conditions
    dtype: str
    engine: str
    table: SpeedTable

    def __str__(self) -> str:
        return f"{self.conditions}, {self.dtype}, {self.engine}"


def recorded_speeds(registry: Registry, shape: ModelShape) -> list[RecordedSpeeds]:
    """Tables of models of these sizes, the earliest first.

    Raises:
        RegistryError: a table is not of the form that prunecast writes.
    """
    found = []
    for row in registry.rows(_TABLES, (shape.family,)):
        try:
            table = SpeedTable.from_json(row["times_json"])
            where = {name: row[name] for name in ("device", "threads", "batch", "context")}
            timing = Timing(shape, table.sizes, dtype=row["dtype"], engine=row["engine"], **where)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise RegistryError(
                f"{registry.path}: is damaged, the component times {row['id']} are no table ({error}); restore a copy "
                "of it"
            ) from error
        # The key is of the sizes of the model, too, which have no column.
        if timing.key == row["key"] and table.kinds == shape.kinds:
            found.append(RecordedSpeeds(Conditions(**where), row["dtype"], row["engine"], table))
    return found


def chosen_speeds(found: Sequence[RecordedSpeeds], asked: Conditions, model: str) -> dict[str, RecordedSpeeds]:
    """The tables of one model under the same conditions, by dtype.

    Of several engines the one measured last is taken, and of several tables in it, which differ in the sizes that were
    timed, the one with most of them.

    Args:
        found: tables of the model, the earliest first.
        asked: conditions that the tables have.
        model: what the model is called in messages.

    Raises:
        RegistryError: no table, or tables under several conditions, are as asked.
    """
    fitting = [each for each in found if asked.take(each.conditions)]
    distinct = list(dict.fromkeys(each.conditions for each in fitting))
    if len(distinct) > 1 or (found and not fitting):
        held = "; ".join(str(each) for each in distinct or dict.fromkeys(each.conditions for each in found))
        which = "several conditions are" if distinct else "other conditions than these alone are"
        raise RegistryError(
            f"{which} recorded for the component times of {model}: {held}; choose by device, threads, batch and context"
        )
    by_dtype: dict[str, RecordedSpeeds] = {}
    for each in fitting:
        before = by_dtype.get(each.dtype)
        if each.engine == fitting[-1].engine and (before is None or _detail(each) >= _detail(before)):
            by_dtype[each.dtype] = each
    return by_dtype


def latest_speeds(found: Sequence[RecordedSpeeds], dtype: str, asked: Conditions) -> RecordedSpeeds | None:
    """The table of a dtype under the conditions that were measured last, chosen as in :func:`chosen_speeds`, if any."""
    fitting = [each for each in found if each.dtype == dtype and asked.take(each.conditions)]
    return chosen_speeds(fitting, fitting[-1].conditions, "")[dtype] if fitting else None


def _detail(speeds: RecordedSpeeds) -> int:
    return sum(len(layer.attention) + len(layer.mlp) for layer in speeds.table.layers)
