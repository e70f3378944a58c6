"""The registry: one SQLite file that holds every evaluation ever paid for, found again by its content.

What is kept is described in :mod:`prunecast.registry.schema.migrations`, questions are asked in :mod:`prunecast.registry.queries.stats`.
"""

from prunecast.keys import content_key
from prunecast.registry.leases import Lease, take_lease
from prunecast.registry.records import Evaluation, ModelRecord, PluginRecord, Recorded, RunRecord, RunStart, Setting
from prunecast.registry.store import Registry

__all__ = [
    "Evaluation",
    "Lease",
    "ModelRecord",
    "PluginRecord",
    "Recorded",
    "Registry",
    "RunRecord",
    "RunStart",
    "Setting",
    "content_key",
    "take_lease",
]
