"""Tables and migrations of the registry.

Dimension tables (models, pruners, evaluators, settings, metrics, layers, provenances) are small, and their rows are
found by content. Fact tables (architectures, evaluations, metric_values, run_evaluations) may have millions of rows,
mostly of integers. ``layers`` has each distinct layer once and an architecture lists their ids, which takes a third of
the space of its layers as JSON; the view ``architecture_layers`` joins the two.
"""

from collections.abc import Mapping
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING

from sqlite_utils import Migrations

from prunecast.registry.schema.views import create_views, drop_views

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA_VERSION = 11
"""Number of migrations; a registry stores the number applied to it in ``PRAGMA user_version``."""

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


_V3_TABLES = {
    "provenances": """(
        id INTEGER PRIMARY KEY,
        pruner_distribution TEXT NOT NULL,
        evaluator_distribution TEXT NOT NULL,
        prunecast TEXT NOT NULL,
        python TEXT NOT NULL,
        torch TEXT NOT NULL,
        transformers TEXT NOT NULL,
        device TEXT NOT NULL,
        UNIQUE (pruner_distribution, evaluator_distribution, prunecast, python, torch, transformers, device)
    ) STRICT""",
    "evaluations": """(
        id INTEGER PRIMARY KEY,
        architecture_id INTEGER NOT NULL REFERENCES architectures (id),
        setting_id INTEGER NOT NULL REFERENCES settings (id),
        run_id INTEGER REFERENCES runs (id) ON DELETE SET NULL,
        provenance_id INTEGER NOT NULL REFERENCES provenances (id),
        parameters INTEGER NOT NULL CHECK (parameters >= 0),
        seconds REAL NOT NULL CHECK (seconds >= 0 AND seconds < 9e999),
        measured_utc TEXT NOT NULL CHECK (measured_utc GLOB '????-??-??T??:??:??Z'),
        UNIQUE (architecture_id, setting_id)
    ) STRICT""",
    "metric_values": """(
        evaluation_id INTEGER NOT NULL REFERENCES evaluations (id) ON DELETE CASCADE,
        metric_id INTEGER NOT NULL REFERENCES metrics (id),
        value REAL NOT NULL CHECK (value > -9e999 AND value < 9e999),
        standard_error REAL CHECK (standard_error >= 0 AND standard_error < 9e999),
        count INTEGER NOT NULL CHECK (count >= 0),
        setting_id INTEGER NOT NULL REFERENCES settings (id),
        parameters INTEGER NOT NULL,
        PRIMARY KEY (evaluation_id, metric_id)
    ) STRICT, WITHOUT ROWID""",
    "run_evaluations": """(
        run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        evaluation_id INTEGER NOT NULL REFERENCES evaluations (id) ON DELETE CASCADE,
        stage TEXT NOT NULL,
        cached INTEGER NOT NULL CHECK (cached IN (0, 1)),
        PRIMARY KEY (run_id, position),
        UNIQUE (evaluation_id, run_id, stage)
    ) STRICT, WITHOUT ROWID""",
    "failures": """(
        architecture_id INTEGER NOT NULL REFERENCES architectures (id),
        setting_id INTEGER NOT NULL REFERENCES settings (id),
        run_id INTEGER REFERENCES runs (id) ON DELETE SET NULL,
        reason TEXT NOT NULL,
        attempts INTEGER NOT NULL CHECK (attempts > 0),
        last_utc TEXT NOT NULL CHECK (last_utc GLOB '????-??-??T??:??:??Z'),
        PRIMARY KEY (architecture_id, setting_id)
    ) STRICT, WITHOUT ROWID""",
}

_V3_COPIES = {
    "provenances": """
        INSERT INTO new_provenances (pruner_distribution, evaluator_distribution, prunecast, python, torch,
            transformers, device)
        SELECT DISTINCT p.distribution, v.distribution, o.prunecast, 'unknown', o.torch, o.transformers, o.device
        FROM evaluations e
        JOIN settings s ON s.id = e.setting_id
        JOIN pruners p ON p.id = s.pruner_id
        JOIN evaluators v ON v.id = s.evaluator_id
        JOIN provenances o ON o.id = e.provenance_id""",
    "evaluations": """
        INSERT INTO new_evaluations
        SELECT e.id, e.architecture_id, e.setting_id, e.run_id, n.id, e.parameters, e.seconds, e.measured_utc
        FROM evaluations e
        JOIN settings s ON s.id = e.setting_id
        JOIN pruners p ON p.id = s.pruner_id
        JOIN evaluators v ON v.id = s.evaluator_id
        JOIN provenances o ON o.id = e.provenance_id
        JOIN new_provenances n ON (n.pruner_distribution, n.evaluator_distribution, n.prunecast, n.torch,
                n.transformers, n.device)
            = (p.distribution, v.distribution, o.prunecast, o.torch, o.transformers, o.device)
        ORDER BY e.id""",
    "metric_values": """
        INSERT INTO new_metric_values
        SELECT x.evaluation_id, x.metric_id, x.value, x.standard_error, x.count, e.setting_id, e.parameters
        FROM metric_values x JOIN evaluations e ON e.id = x.evaluation_id
        ORDER BY x.evaluation_id, x.metric_id""",
    "run_evaluations": "INSERT INTO new_run_evaluations SELECT * FROM run_evaluations",
    "failures": """
        INSERT INTO new_failures
        SELECT architecture_id, setting_id, run_id, reason, attempts, last_utc FROM failures""",
}


@migrations()
def v3_provenance_and_leases(database: "Database") -> None:
    """Provenance with Python and the plugins' distributions; an index for ``best``; leases; runs can be deleted.

    ``metric_values`` repeats the setting and the parameters of its evaluation, so that one index finds the best
    architecture within a budget. Unique keys begin with the columns by which rows are looked up and deleted.
    """
    execute = database.conn.execute
    for name, columns in _V3_TABLES.items():
        execute(f"CREATE TABLE new_{name} {columns}")
    for statement in _V3_COPIES.values():
        execute(statement)
    for name in reversed(_V3_TABLES):
        execute(f"DROP TABLE {name}")
    for name in _V3_TABLES:
        execute(f"ALTER TABLE new_{name} RENAME TO {name}")
    execute("CREATE INDEX metric_values_by_value ON metric_values (metric_id, setting_id, value, parameters)")
    execute(
        """CREATE TABLE leases (
            architecture_id INTEGER NOT NULL REFERENCES architectures (id),
            setting_id INTEGER NOT NULL REFERENCES settings (id),
            holder TEXT NOT NULL,
            expires_utc TEXT NOT NULL CHECK (expires_utc GLOB '????-??-??T??:??:??Z'),
            PRIMARY KEY (architecture_id, setting_id)
        ) STRICT, WITHOUT ROWID"""
    )


@migrations()
def v4_quality_cards(database: "Database") -> None:
    """The view ``quality_cards``: tables do not change, and :func:`migrate` creates all views again."""


@migrations()
def v5_slopes(database: "Database") -> None:
    """First-order local sensitivities around an architecture."""
    database.conn.execute(
        """CREATE TABLE slopes (
            architecture_id INTEGER NOT NULL REFERENCES architectures (id),
            setting_id INTEGER NOT NULL REFERENCES settings (id),
            run_id INTEGER REFERENCES runs (id) ON DELETE SET NULL,
            changes_json TEXT NOT NULL CHECK (json_valid(changes_json)),
            seconds REAL NOT NULL CHECK (seconds >= 0 AND seconds < 9e999),
            measured_utc TEXT NOT NULL CHECK (measured_utc GLOB '????-??-??T??:??:??Z'),
            PRIMARY KEY (architecture_id, setting_id)
        ) STRICT, WITHOUT ROWID"""
    )


@migrations()
def v6_steps(database: "Database") -> None:
    """Local sensitivities to second order; first-order ones are dropped, since no run reads them any more."""
    database.conn.execute("DROP TABLE slopes")
    database.conn.execute(
        """CREATE TABLE steps (
            architecture_id INTEGER NOT NULL REFERENCES architectures (id),
            setting_id INTEGER NOT NULL REFERENCES settings (id),
            run_id INTEGER REFERENCES runs (id) ON DELETE SET NULL,
            changes_json TEXT NOT NULL CHECK (json_valid(changes_json)),
            seconds REAL NOT NULL CHECK (seconds >= 0 AND seconds < 9e999),
            measured_utc TEXT NOT NULL CHECK (measured_utc GLOB '????-??-??T??:??:??Z'),
            PRIMARY KEY (architecture_id, setting_id)
        ) STRICT, WITHOUT ROWID"""
    )


@migrations()
def v7_code_and_versions(database: "Database") -> None:
    """Hash of the code of local plugins, which was part of their key alone before; version of the steps' estimator."""
    for table in ("pruners", "evaluators"):
        database.conn.execute(f"ALTER TABLE {table} ADD COLUMN code_hash TEXT")
    database.conn.execute("ALTER TABLE steps ADD COLUMN version INTEGER NOT NULL DEFAULT 1")


@migrations()
def v8_identities_and_run_leases(database: "Database") -> None:
    """Identity of each run, empty for earlier ones; leases of processes on the runs that they execute.

    An identity has the hashes of all that the numbers of a run depend on. A run without a lease is not running.
    """
    database.conn.execute(
        "ALTER TABLE runs ADD COLUMN identity_json TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(identity_json))"
    )
    database.conn.execute(
        """CREATE TABLE run_leases (
            id INTEGER PRIMARY KEY,
            run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            holder TEXT NOT NULL,
            expires_utc TEXT NOT NULL CHECK (expires_utc GLOB '????-??-??T??:??:??Z'),
            UNIQUE (run_id, holder)
        ) STRICT"""
    )


@migrations()
def v9_lineage_of_models(database: "Database") -> None:
    """The models that a model was made from by pruning; empty for models that were not, and for earlier rows."""
    database.conn.execute(
        "ALTER TABLE models ADD COLUMN made_from_json TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(made_from_json))"
    )


@migrations()
def v10_exports(database: "Database") -> None:
    """Written files of runs, compared in their engine with the measured model; the last ones of each folder."""
    database.conn.execute(
        """CREATE TABLE exports (
            id INTEGER PRIMARY KEY,
            run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
            target TEXT NOT NULL,
            folder TEXT NOT NULL,
            architecture TEXT NOT NULL,
            parameters INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            notes_json TEXT NOT NULL CHECK (json_valid(notes_json)),
            engine TEXT,
            compared TEXT,
            max_difference REAL,
            greedy_equal INTEGER,
            greedy INTEGER,
            tokens INTEGER,
            perplexity REAL,
            reference_perplexity REAL,
            load_seconds REAL,
            prefill REAL,
            decode REAL,
            exported_utc TEXT NOT NULL CHECK (exported_utc GLOB '????-??-??T??:??:??Z'),
            UNIQUE (run_id, folder)
        ) STRICT"""
    )


@migrations()
def v11_component_times(database: "Database") -> None:
    """Measured times of the components of models, by which budgets limit the speed of architectures."""
    database.conn.execute(
        """CREATE TABLE component_times (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,
            family TEXT NOT NULL,
            device TEXT NOT NULL,
            dtype TEXT NOT NULL,
            threads INTEGER NOT NULL,
            batch INTEGER NOT NULL,
            context INTEGER NOT NULL,
            engine TEXT NOT NULL,
            times_json TEXT NOT NULL CHECK (json_valid(times_json)),
            seconds REAL NOT NULL CHECK (seconds >= 0 AND seconds < 9e999),
            measured_utc TEXT NOT NULL CHECK (measured_utc GLOB '????-??-??T??:??:??Z')
        ) STRICT"""
    )


@cache
def tables_of(version: int) -> Mapping[str, str]:
    """SQL of every table and index of a registry of a schema version, by name, as SQLite keeps it.

    Every registry has come through the same migrations, so this is the same text in every file. The table in which
    sqlite-utils notes the migrations is left out.
    """
    from sqlite_utils import Database

    with closing(Database(memory=True)) as database:
        later = [migration.name for migration in migrations.pending(database)][version:]
        migrations.apply(database, stop_before=later[:1])
        own = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name <> ?"
        return dict(database.conn.execute(own, (migrations.migrations_table,)).fetchall())


def migrate(database: "Database") -> None:
    """Apply pending migrations, create the views again, and set the file's schema version and application id.

    Call this inside a transaction of a connection that does not enforce foreign keys, because tables that others refer
    to are rebuilt (https://www.sqlite.org/lang_altertable.html, section 7). Never edit a released migration: append
    ``vN_...`` and raise :data:`SCHEMA_VERSION`.
    """
    drop_views(database.conn)
    migrations.apply(database)
    create_views(database.conn)
    database.conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
