"""Removal of runs, of rows without references, and of free pages of the file."""

from prunecast.registry.records import utc_text
from prunecast.registry.schema.views import create_measurements
from prunecast.registry.sqlite.database import one_line_errors
from prunecast.registry.store import Registry

# In this order, so that rows referred to only by removed rows are removed too.
_UNREFERENCED = {
    "architectures": """
        NOT EXISTS (SELECT 1 FROM evaluations c WHERE c.architecture_id = t.id)
        AND NOT EXISTS (SELECT 1 FROM failures c WHERE c.architecture_id = t.id)
        AND NOT EXISTS (SELECT 1 FROM leases c WHERE c.architecture_id = t.id)
        AND NOT EXISTS (SELECT 1 FROM steps c WHERE c.architecture_id = t.id)""",
    "settings": """
        id NOT IN (SELECT setting_id FROM evaluations UNION SELECT setting_id FROM failures
            UNION SELECT setting_id FROM leases UNION SELECT setting_id FROM steps)""",
    "models": "id NOT IN (SELECT model_id FROM settings)",
    "pruners": "id NOT IN (SELECT pruner_id FROM settings)",
    "evaluators": "id NOT IN (SELECT evaluator_id FROM settings)",
    "metrics": "id NOT IN (SELECT metric_id FROM metric_values)",
    "provenances": "id NOT IN (SELECT provenance_id FROM evaluations)",
    "layers": "id NOT IN (SELECT ids.value FROM architectures a CROSS JOIN json_each(a.layer_ids_json) ids)",
}

_MEASURED_FOR_IT_ALONE = """
    DELETE FROM evaluations WHERE run_id = :run AND id NOT IN (
        SELECT evaluation_id FROM run_evaluations WHERE run_id <> :run)"""


def remove_unreferenced(registry: Registry) -> dict[str, int]:
    """Remove expired leases, and rows that no evaluation, failure, lease or local sensitivity refers to.

    Returns:
        Number of removed rows by table.

    Raises:
        RegistryError: the file cannot be written.
    """
    with registry.transaction() as connection:
        expired = connection.execute("DELETE FROM leases WHERE expires_utc < ?", (utc_text(),))
        removed = {"leases": expired.rowcount}
        for table, condition in _UNREFERENCED.items():
            removed[table] = connection.execute(f"DELETE FROM {table} AS t WHERE {condition}").rowcount
        if removed["metrics"]:
            create_measurements(connection)
    return removed


def delete_run(registry: Registry, run_id: int) -> None:
    """Delete a run and its links. Its evaluations stay, because any run may reuse them.

    The evaluations it measured lose their reference to a run, so ``verify --remeasure`` cannot measure them again.

    Raises:
        RegistryError: the file cannot be written.
    """
    with registry.transaction() as connection:
        connection.execute("DELETE FROM runs WHERE id = ?", (run_id,))


def delete_evaluations(registry: Registry, run_id: int) -> int:
    """Delete the evaluations that a run measured and no other run uses, and the local sensitivities it estimated.

    Returns:
        Number of deleted evaluations.

    Raises:
        RegistryError: the file cannot be written.
    """
    with registry.transaction() as connection:
        connection.execute("DELETE FROM steps WHERE run_id = ?", (run_id,))
        return int(connection.execute(_MEASURED_FOR_IT_ALONE, {"run": run_id}).rowcount)


def vacuum(registry: Registry) -> tuple[int, int]:
    """Return free pages of the file to the disk.

    Returns:
        Size of the file in bytes before and after.

    Raises:
        RegistryError: another process uses the file, or the disk has no room for a copy of it.
    """
    with one_line_errors(registry.path):
        before = registry.path.stat().st_size
        registry.database.conn.execute("VACUUM")
        registry.database.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return before, registry.path.stat().st_size
