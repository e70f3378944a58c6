"""Best first: evaluations of a metric in its order, read from an index however many there are."""

from collections.abc import Iterator, Mapping
from heapq import merge
from typing import NamedTuple

from prunecast.registry.store import Registry

_RANKABLE = """
    SELECT n.id AS metric_id, n.direction, s.id AS setting_id, s.model_id
    FROM metrics n CROSS JOIN settings s
    WHERE n.name = ? AND EXISTS (SELECT 1 FROM metric_values x WHERE x.metric_id = n.id AND x.setting_id = s.id)
    ORDER BY n.id, s.id"""

_IN_ORDER = """
    SELECT value, parameters, evaluation_id FROM metric_values
    WHERE metric_id = ? AND setting_id = ? AND parameters <= ?
    ORDER BY value {order}, parameters, evaluation_id"""


class Ranked(NamedTuple):
    """A measured value of a metric: the better first, of equals the smaller, of those the first measured.

    ``rank`` is the value, negative where more is better; ``parameters`` are those of the architecture.
    """

    rank: float
    parameters: int
    evaluation_id: int


def ranked(registry: Registry, metric: str, largest: Mapping[int, int]) -> Iterator[Ranked]:
    """Values of ``metric``, best first.

    Args:
        registry: where to look.
        metric: name of the metric; its direction says what is better.
        largest: by model id, how many parameters an architecture may have. Other models are left out.

    Raises:
        RegistryError: the file is damaged or cannot be read.
    """
    return merge(
        *(
            _in_order(registry, row["metric_id"], row["setting_id"], row["direction"], largest[row["model_id"]])
            for row in registry.rows(_RANKABLE, (metric,))
            if row["model_id"] in largest
        )
    )


def _in_order(registry: Registry, metric_id: int, setting_id: int, direction: str, largest: int) -> Iterator[Ranked]:
    descending = direction == "maximize"
    statement = _IN_ORDER.format(order="DESC" if descending else "")
    for row in registry.rows(statement, (metric_id, setting_id, largest)):
        value = row["value"]
        yield Ranked(-value if descending else value, row["parameters"], row["evaluation_id"])
