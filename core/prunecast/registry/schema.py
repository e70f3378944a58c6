"""Tables, views and migrations of the registry.

Dimensions (models, pruners, evaluators, settings, metrics, layers, provenances) are small, and their rows are found by
content. The facts (architectures, evaluations, metric_values, run_evaluations) may run into millions and hold little
but integers. ``layers`` has each distinct layer once and an architecture lists their ids, a third of what its own JSON
would take; the view ``architecture_layers`` spells them out again.
"""

from typing import TYPE_CHECKING

from sqlite_utils import Migrations

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA_VERSION = 2
"""Number of migrations there are; a registry holds its own in ``PRAGMA user_version``."""

APPLICATION_ID = int.from_bytes(b"pcst", "big")
"""``PRAGMA application_id`` of every registry."""

migrations = Migrations("prunecast")

_PLUGIN_COLUMNS = """
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    options_json TEXT NOT NULL CHECK (json_valid(options_json)),
    data_hash TEXT,
    distribution TEXT NOT NULL
"""

_TABLES = (
    """CREATE TABLE models (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,
        family TEXT NOT NULL,
        parameters INTEGER NOT NULL,
        shape_json TEXT NOT NULL CHECK (json_valid(shape_json))
    ) STRICT""",
    f"CREATE TABLE pruners ({_PLUGIN_COLUMNS}) STRICT",
    f"CREATE TABLE evaluators ({_PLUGIN_COLUMNS}) STRICT",
    """CREATE TABLE settings (
        id INTEGER PRIMARY KEY,
        model_id INTEGER NOT NULL REFERENCES models (id),
        pruner_id INTEGER NOT NULL REFERENCES pruners (id),
        evaluator_id INTEGER NOT NULL REFERENCES evaluators (id),
        dtype TEXT NOT NULL,
        UNIQUE (model_id, pruner_id, evaluator_id, dtype)
    ) STRICT""",
    """CREATE TABLE metrics (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        direction TEXT NOT NULL CHECK (direction IN ('minimize', 'maximize')),
        unit TEXT NOT NULL,
        scale TEXT NOT NULL CHECK (scale IN ('linear', 'log')),
        UNIQUE (name, direction, unit, scale)
    ) STRICT""",
    """CREATE TABLE provenances (
        id INTEGER PRIMARY KEY,
        prunecast TEXT NOT NULL,
        torch TEXT NOT NULL,
        transformers TEXT NOT NULL,
        device TEXT NOT NULL,
        UNIQUE (prunecast, torch, transformers, device)
    ) STRICT""",
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'finished', 'failed', 'interrupted')),
        started_utc TEXT NOT NULL,
        finished_utc TEXT,
        spec_json TEXT NOT NULL CHECK (json_valid(spec_json)),
        spec_text TEXT NOT NULL,
        result_json TEXT CHECK (result_json IS NULL OR json_valid(result_json)),
        message TEXT NOT NULL DEFAULT ''
    ) STRICT""",
    """CREATE TABLE layers (
        id INTEGER PRIMARY KEY,
        kv_groups INTEGER NOT NULL,
        heads_per_group INTEGER NOT NULL,
        mlp_width INTEGER NOT NULL,
        UNIQUE (kv_groups, heads_per_group, mlp_width)
    ) STRICT""",
    """CREATE TABLE architectures (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE CHECK (length(key) = 16),
        depth INTEGER NOT NULL,
        layer_ids_json TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE evaluations (
        id INTEGER PRIMARY KEY,
        setting_id INTEGER NOT NULL REFERENCES settings (id),
        architecture_id INTEGER NOT NULL REFERENCES architectures (id),
        run_id INTEGER NOT NULL REFERENCES runs (id),
        provenance_id INTEGER NOT NULL REFERENCES provenances (id),
        parameters INTEGER NOT NULL,
        seconds REAL NOT NULL,
        measured_utc TEXT NOT NULL,
        UNIQUE (setting_id, architecture_id)
    ) STRICT""",
    """CREATE TABLE metric_values (
        evaluation_id INTEGER NOT NULL REFERENCES evaluations (id),
        metric_id INTEGER NOT NULL REFERENCES metrics (id),
        value REAL NOT NULL,
        standard_error REAL,
        count INTEGER NOT NULL,
        PRIMARY KEY (evaluation_id, metric_id)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE run_evaluations (
        run_id INTEGER NOT NULL REFERENCES runs (id),
        position INTEGER NOT NULL,
        evaluation_id INTEGER NOT NULL REFERENCES evaluations (id),
        stage TEXT NOT NULL,
        cached INTEGER NOT NULL CHECK (cached IN (0, 1)),
        PRIMARY KEY (run_id, position),
        UNIQUE (run_id, evaluation_id, stage)
    ) STRICT, WITHOUT ROWID""",
)

# CROSS JOIN keeps SQLite from reordering the loops: json_each yields the layers first to last.
_VIEWS = {
    "architecture_layers": """
        SELECT a.id AS architecture_id, lower(hex(a.key)) AS architecture_key, ids.key AS layer,
            l.kv_groups, l.heads_per_group, l.mlp_width
        FROM architectures a CROSS JOIN json_each(a.layer_ids_json) ids CROSS JOIN layers l ON l.id = ids.value""",
    "measurements": """
        SELECT e.id AS evaluation_id,
            m.source AS model, m.key AS model_key, m.family,
            p.name AS pruner, p.version AS pruner_version, p.options_json AS pruner_options_json,
            v.name AS evaluator, v.version AS evaluator_version, v.options_json AS evaluator_options_json,
            s.dtype, n.name AS metric, x.value, x.standard_error, x.count, n.unit, n.direction,
            e.parameters, CAST(e.parameters AS REAL) / m.parameters AS kept, lower(hex(a.key)) AS architecture_key,
            (SELECT json_group_array(json_array(l.kv_groups, l.heads_per_group, l.mlp_width))
                FROM json_each(a.layer_ids_json) ids CROSS JOIN layers l ON l.id = ids.value) AS layers_json,
            e.run_id, o.device, o.prunecast, o.torch, o.transformers, e.seconds, e.measured_utc
        FROM evaluations e
        JOIN settings s ON s.id = e.setting_id
        JOIN models m ON m.id = s.model_id
        JOIN pruners p ON p.id = s.pruner_id
        JOIN evaluators v ON v.id = s.evaluator_id
        JOIN architectures a ON a.id = e.architecture_id
        JOIN provenances o ON o.id = e.provenance_id
        JOIN metric_values x ON x.evaluation_id = e.id
        JOIN metrics n ON n.id = x.metric_id""",
    "run_summary": """
        SELECT r.id AS run_id, r.name, r.key, r.status, r.started_utc, r.finished_utc, r.message,
            count(used.id) AS evaluations,
            coalesce(sum(used.measured), 0) AS measured,
            count(used.id) - coalesce(sum(used.measured), 0) AS reused,
            coalesce(sum(used.seconds) FILTER (WHERE used.measured), 0.0) AS seconds_spent,
            coalesce(sum(used.seconds) FILTER (WHERE NOT used.measured), 0.0) AS seconds_saved
        FROM runs r LEFT JOIN (
            SELECT DISTINCT u.run_id AS by_run, e.id, e.seconds, e.run_id = u.run_id AS measured
            FROM run_evaluations u JOIN evaluations e ON e.id = u.evaluation_id
        ) used ON used.by_run = r.id
        GROUP BY r.id""",
}


@migrations()
def v1_initial(database: "Database") -> None:
    """Every table of the first release."""
    for statement in _TABLES:
        database.conn.execute(statement)


@migrations()
def v2_failures(database: "Database") -> None:
    """Architectures that could not be measured, and why."""
    database.conn.execute(
        """CREATE TABLE failures (
            setting_id INTEGER NOT NULL REFERENCES settings (id),
            architecture_id INTEGER NOT NULL REFERENCES architectures (id),
            run_id INTEGER NOT NULL REFERENCES runs (id),
            reason TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            last_utc TEXT NOT NULL,
            PRIMARY KEY (setting_id, architecture_id)
        ) STRICT, WITHOUT ROWID"""
    )


def migrate(database: "Database") -> None:
    """Apply what is pending, make the views anew and stamp the file. Call inside a transaction.

    A released migration is never edited: append ``vN_...`` and raise :data:`SCHEMA_VERSION`.
    """
    for name in _VIEWS:
        database.conn.execute(f"DROP VIEW IF EXISTS {name}")
    migrations.apply(database)
    for name, select in _VIEWS.items():
        database.conn.execute(f"CREATE VIEW {name} AS {select}")
    database.conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
