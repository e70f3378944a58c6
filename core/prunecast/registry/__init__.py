"""The registry: one SQLite file that holds every evaluation ever made, found again by its content.

Tables and migrations are in :mod:`prunecast.registry.schema`, questions in :mod:`prunecast.registry.queries`, exchange
with other registries in :mod:`prunecast.registry.sharing`.
"""

from prunecast.keys import content_key
from prunecast.registry.leases import Leases
from prunecast.registry.records import Evaluation, ModelRecord, PluginRecord, Recorded, RunRecord, RunStart, Setting
from prunecast.registry.store import Registry, registry_path

__all__ = [
    "Evaluation",
    "Leases",
    "ModelRecord",
    "PluginRecord",
    "Recorded",
    "Registry",
    "RunRecord",
    "RunStart",
    "Setting",
    "content_key",
    "registry_path",
]
