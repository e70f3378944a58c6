"""Views of the registry, which answer common questions without a join.

Views hold no data, so every upgrade creates them again. ``measurements`` has a column for every metric, so it is also
created again in the transaction that records a metric of a new name.
"""

import sqlite3

MOST_METRIC_COLUMNS = 500
"""Largest number of metrics with a column in ``measurements``: those recorded first. SQLite allows 2,000 columns."""

# Text such as "3x3+1536*2 0+768" from layer_ids_json. Equal neighbours have the same difference of position and rank.
_ARCHITECTURE = """(
        SELECT group_concat(piece, ' ') FROM (
            SELECT CASE l.kv_groups WHEN 0 THEN '0' ELSE l.kv_groups || 'x' || l.heads_per_group END
                || '+' || l.mlp_width || CASE r.repeat WHEN 1 THEN '' ELSE '*' || r.repeat END AS piece
            FROM (
                SELECT value AS id, count(*) AS repeat, min(key) AS first
                FROM (
                    SELECT key, value, key - row_number() OVER (PARTITION BY value ORDER BY key) AS island
                    FROM json_each(a.layer_ids_json)
                )
                GROUP BY value, island
            ) r JOIN layers l ON l.id = r.id
            ORDER BY r.first
        )
    )"""

# CROSS JOIN keeps SQLite from reordering the loops, and json_each yields the layers first to last.
_LAYERS_JSON = """(
        SELECT json_group_array(json_array(l.kv_groups, l.heads_per_group, l.mlp_width))
        FROM json_each(a.layer_ids_json) ids CROSS JOIN layers l ON l.id = ids.value
    )"""

# A killed process leaves "running" behind. Whether it has expired is all that SQL can tell of a lease.
_RUN_STATUS = """CASE WHEN r.status = 'running' AND NOT EXISTS (
            SELECT 1 FROM run_leases l
            WHERE l.run_id = r.id AND l.expires_utc >= strftime('%Y-%m-%dT%H:%M:%SZ', 'now')
        ) THEN 'interrupted' ELSE r.status END"""

_SCORES = (
    *("r2", "mse", "rmse", "mae", "kendall_tau", "spearman_rho", "regret"),
    *("coverage_68", "coverage_95", "calibration_error"),
)

_VIEWS = {
    "architecture_layers": """
    SELECT a.id AS architecture_id, lower(hex(a.key)) AS architecture_key, ids.key AS layer,
        l.kv_groups, l.heads_per_group, l.mlp_width
    FROM architectures a CROSS JOIN json_each(a.layer_ids_json) ids CROSS JOIN layers l ON l.id = ids.value""",
    "metric_measurements": f"""
    SELECT e.id AS evaluation_id,
        m.source AS model, m.key AS model_key, m.family,
        p.name AS pruner, p.version AS pruner_version, p.options_json AS pruner_options_json,
        v.name AS evaluator, v.version AS evaluator_version, v.options_json AS evaluator_options_json,
        s.dtype, n.name AS metric, x.value, x.standard_error, x.count, n.unit, n.direction,
        e.parameters, CAST(e.parameters AS REAL) / m.parameters AS kept,
        {_ARCHITECTURE} AS architecture, lower(hex(a.key)) AS architecture_key,
        {_LAYERS_JSON} AS layers_json,
        e.run_id, e.seconds, e.measured_utc, o.device,
        o.pruner_distribution, o.evaluator_distribution, o.prunecast, o.python, o.torch, o.transformers
    FROM evaluations e
    JOIN settings s ON s.id = e.setting_id
    JOIN models m ON m.id = s.model_id
    JOIN pruners p ON p.id = s.pruner_id
    JOIN evaluators v ON v.id = s.evaluator_id
    JOIN architectures a ON a.id = e.architecture_id
    JOIN provenances o ON o.id = e.provenance_id
    JOIN metric_values x ON x.evaluation_id = e.id
    JOIN metrics n ON n.id = x.metric_id""",
    "run_summary": f"""
    SELECT r.id AS run_id, r.name, r.key, {_RUN_STATUS} AS status, r.started_utc, r.finished_utc, r.message,
        count(used.id) AS evaluations,
        coalesce(sum(used.measured), 0) AS measured,
        count(used.id) - coalesce(sum(used.measured), 0) AS reused,
        coalesce(sum(used.seconds) FILTER (WHERE used.measured), 0.0) AS seconds_spent,
        coalesce(sum(used.seconds) FILTER (WHERE NOT used.measured), 0.0) AS seconds_saved
    FROM runs r LEFT JOIN (
        SELECT DISTINCT u.run_id AS by_run, e.id, e.seconds, e.run_id IS u.run_id AS measured
        FROM run_evaluations u JOIN evaluations e ON e.id = u.evaluation_id
    ) used ON used.by_run = r.id
    GROUP BY r.id""",
    "quality_cards": f"""
    SELECT r.id AS run_id, r.name,
        json_extract(r.result_json, '$.quality_card.predictor') AS predictor,
        json_extract(r.result_json, '$.quality_card.pairs') AS pairs,
        json_extract(r.result_json, '$.quality_card.held_out') AS held_out,
        json_extract(r.result_json, '$.quality_card.splits') AS splits,
        scores.key AS target,
        {", ".join(f"json_extract(scores.value, '$.{score}') AS {score}" for score in _SCORES)}
    FROM runs r CROSS JOIN json_each(json_set(
        json_extract(r.result_json, '$.quality_card.metrics'),
        '$.objective', json_extract(r.result_json, '$.quality_card.objective'),
        '$.overall', json_extract(r.result_json, '$.quality_card.overall')
    )) scores
    WHERE json_type(r.result_json, '$.quality_card') = 'object'""",
    # A front is built from its best value: the next point is the best of the smaller ones, which the index finds.
    # Pruners and dtypes of one model are compared; numbers of different evaluators or models are not.
    "pareto": f"""
    WITH RECURSIVE front (setting_id, metric_id, direction, evaluation_id, value, parameters) AS (
        SELECT s.id, n.id, n.direction, x.evaluation_id, x.value, x.parameters
        FROM settings s CROSS JOIN metrics n CROSS JOIN metric_values x
            ON x.metric_id = n.id AND x.evaluation_id = CASE n.direction
                WHEN 'minimize' THEN (
                    SELECT b.evaluation_id FROM metric_values b WHERE b.metric_id = n.id AND b.setting_id = s.id
                    ORDER BY b.value, b.parameters LIMIT 1)
                ELSE (
                    SELECT b.evaluation_id FROM metric_values b WHERE b.metric_id = n.id AND b.setting_id = s.id
                    ORDER BY b.value DESC, b.parameters LIMIT 1) END
        UNION ALL
        SELECT f.setting_id, f.metric_id, f.direction, x.evaluation_id, x.value, x.parameters
        FROM front f CROSS JOIN metric_values x
            ON x.metric_id = f.metric_id AND x.evaluation_id = CASE f.direction
                WHEN 'minimize' THEN (
                    SELECT b.evaluation_id FROM metric_values b
                    WHERE b.metric_id = f.metric_id AND b.setting_id = f.setting_id
                        AND b.value >= f.value AND b.parameters < f.parameters
                    ORDER BY b.value, b.parameters LIMIT 1)
                ELSE (
                    SELECT b.evaluation_id FROM metric_values b
                    WHERE b.metric_id = f.metric_id AND b.setting_id = f.setting_id
                        AND b.value <= f.value AND b.parameters < f.parameters
                    ORDER BY b.value DESC, b.parameters LIMIT 1) END
    ),
    contest AS (SELECT f.*, s.model_id, s.evaluator_id FROM front f JOIN settings s ON s.id = f.setting_id)
    SELECT m.source AS model, n.name AS metric, f.value, x.standard_error, n.direction, f.parameters,
        CAST(f.parameters AS REAL) / m.parameters AS kept, {_ARCHITECTURE} AS architecture,
        p.name AS pruner, p.options_json AS pruner_options_json,
        v.name AS evaluator, v.options_json AS evaluator_options_json, s.dtype,
        lower(hex(a.key)) AS architecture_key, m.key AS model_key, f.evaluation_id
    FROM contest f
    JOIN settings s ON s.id = f.setting_id
    JOIN models m ON m.id = s.model_id
    JOIN pruners p ON p.id = s.pruner_id
    JOIN evaluators v ON v.id = s.evaluator_id
    JOIN metrics n ON n.id = f.metric_id
    JOIN evaluations e ON e.id = f.evaluation_id
    JOIN architectures a ON a.id = e.architecture_id
    JOIN metric_values x ON x.evaluation_id = f.evaluation_id AND x.metric_id = f.metric_id
    WHERE NOT EXISTS (
        SELECT 1 FROM contest g
        WHERE g.model_id = f.model_id AND g.evaluator_id = f.evaluator_id AND g.metric_id = f.metric_id
            AND g.parameters <= f.parameters
            AND CASE f.direction WHEN 'minimize' THEN g.value <= f.value ELSE g.value >= f.value END
            AND (g.parameters < f.parameters OR g.value <> f.value)
    )""",
}

# One row for all evaluations of an architecture under one model, pruner and dtype: that of the first.
_MEASUREMENTS = """
    SELECT m.source AS model, p.name AS pruner, s.dtype, {architecture} AS architecture,
        f.parameters, CAST(f.parameters AS REAL) / m.parameters AS kept,{metrics}
        p.options_json AS pruner_options_json, f.measured_utc, f.run_id,
        lower(hex(a.key)) AS architecture_key, m.key AS model_key, p.key AS pruner_key,
        f.architecture_id, s.model_id, s.pruner_id
    FROM evaluations f
    JOIN settings s ON s.id = f.setting_id
    JOIN models m ON m.id = s.model_id
    JOIN pruners p ON p.id = s.pruner_id
    JOIN architectures a ON a.id = f.architecture_id
    WHERE NOT EXISTS (
        SELECT 1 FROM evaluations e CROSS JOIN settings o ON o.id = e.setting_id
        WHERE e.architecture_id = f.architecture_id AND e.id < f.id
            AND o.model_id = s.model_id AND o.pruner_id = s.pruner_id AND o.dtype = s.dtype
    )"""

# If several evaluators measure a metric, the value with most tokens or questions is taken.
_METRIC = """
        (
            SELECT x.value
            FROM evaluations e CROSS JOIN settings o ON o.id = e.setting_id
            CROSS JOIN metric_values x ON x.evaluation_id = e.id CROSS JOIN metrics n ON n.id = x.metric_id
            WHERE e.architecture_id = f.architecture_id AND n.name = {literal}
                AND o.model_id = s.model_id AND o.pruner_id = s.pruner_id AND o.dtype = s.dtype
            ORDER BY x.count DESC, e.id LIMIT 1
        ) AS {identifier},"""


NAMES = (*_VIEWS, "measurements")
"""Names of the views; those of earlier schema versions are among them."""


def definitions(connection: sqlite3.Connection) -> dict[str, str]:
    """The statement that creates each view of this file, by name; ``measurements`` follows from its metrics."""
    selects = {**_VIEWS, "measurements": _measurements(connection)}
    return {name: f"CREATE VIEW {name} AS {select}" for name, select in selects.items()}


def drop_views(connection: sqlite3.Connection) -> None:
    """Drop every view of the registry."""
    for name in NAMES:
        connection.execute(f"DROP VIEW IF EXISTS {name}")


def create_views(connection: sqlite3.Connection) -> None:
    """Create every view again. Call this inside a transaction."""
    drop_views(connection)
    for statement in definitions(connection).values():
        connection.execute(statement)


def create_measurements(connection: sqlite3.Connection) -> None:
    """Create ``measurements`` again, with a column for every metric. Call this inside a transaction."""
    connection.execute("DROP VIEW IF EXISTS measurements")
    connection.execute(f"CREATE VIEW measurements AS {_measurements(connection)}")


def _measurements(connection: sqlite3.Connection) -> str:
    rows = connection.execute("SELECT name FROM metrics GROUP BY name ORDER BY min(id) LIMIT ?", (MOST_METRIC_COLUMNS,))
    columns = "".join(
        _METRIC.format(literal=_quoted(name, "'"), identifier=_quoted(name, '"')) for (name,) in rows.fetchall()
    )
    return _MEASUREMENTS.replace("{architecture}", _ARCHITECTURE).replace("{metrics}", columns)


def _quoted(name: str, mark: str) -> str:
    return mark + name.replace(mark, 2 * mark) + mark
