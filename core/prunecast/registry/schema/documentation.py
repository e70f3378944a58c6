"""The schema for readers: what every table, view and column means, for ``docs/registry.md`` and for Datasette.

``python -m prunecast.registry.schema.documentation docs/registry.md datasette.yaml``, or ``make schema``, writes both.
"""

import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from sqlite_utils import Database

from prunecast.registry.schema.migrations import SCHEMA_VERSION, migrate

BEGIN, END = "<!-- schema: written by make schema -->\n", "<!-- end of schema -->\n"

PLUGIN = {
    "key": "content key: hash of name, version, options, data_hash and, if there is one, code_hash",
    "name": "what a spec writes after `use:`",
    "version": "raised by its author when the same options would give other numbers",
    "options_json": "options that differ from their defaults and can change a number",
    "data_hash": "hash of exactly the tokens it looks at; NULL if it looks at none",
    "distribution": "distribution and version that first brought it",
    "code_hash": "hash of its code if that is a local file; NULL if installed, or unused since schema version 7",
}

PROVENANCE = {
    "pruner_distribution": "distribution and version the pruner came from",
    "evaluator_distribution": "distribution and version the evaluator came from",
    "prunecast": "version of prunecast",
    "python": "version of Python; `unknown` before schema version 3",
    "torch": "version of torch",
    "transformers": "version of transformers",
    "device": "kind of device, `cpu` or `cuda`",
}

ARCHITECTURE = {
    "architecture": "what every layer keeps, `KVxH+width`, equal neighbours as `*count`",
    "architecture_key": "content key of the architecture",
    "parameters": "parameters of the architecture",
    "kept": "the same as a fraction of the dense model",
}

UNDER = {
    "model": "source of the model",
    "model_key": "its content key",
    "pruner": "name of the pruner",
    "pruner_options_json": "its options",
    "dtype": "number format of the weights while measuring",
}

TABLES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "models": (
        "Dense models.",
        {
            "key": "content key: hash of config and every weight",
            "source": "alias, Hub id, folder or file it came from; no part of its identity",
            "family": "name of the model family",
            "parameters": "parameters of the dense model",
            "shape_json": "its sizes, enough to count any of its architectures",
        },
    ),
    "pruners": ("What ranks the units of a model, compensation included.", PLUGIN),
    "evaluators": ("What measures.", PLUGIN),
    "settings": (
        "What evaluations are made under: together with an architecture it determines the numbers.",
        {"dtype": "number format of the weights while measuring"},
    ),
    "metrics": (
        "What can be measured.",
        {
            "name": "`DATASET.SPLIT.METRIC`",
            "direction": "whether smaller (`minimize`) or larger (`maximize`) is better",
            "unit": "what one unit of it is",
            "scale": "`log` for positive ratios such as perplexity, else `linear`",
        },
    ),
    "layers": (
        "Every distinct layer once.",
        {
            "kv_groups": "KV heads it keeps, each read by one group of query heads",
            "heads_per_group": "query heads a group",
            "mlp_width": "channels of the MLP",
        },
    ),
    "architectures": (
        "What remains of a model; `architecture_layers` spells the layers out.",
        {
            "key": "content key: hash of the layers, 16 bytes",
            "depth": "number of layers",
            "layer_ids_json": "ids of its layers, first to last",
        },
    ),
    "runs": (
        "One execution of a spec, or several: a spec that is run again continues its run.",
        {
            "key": "content key of the resolved spec",
            "name": "name from the spec",
            "status": "`running`, `finished`, `failed` or `interrupted`; a killed process leaves `running` behind",
            "started_utc": "when it was last started",
            "finished_utc": "when it ended",
            "spec_json": "the resolved spec",
            "spec_text": "the spec file as it was written",
            "result_json": "what it came to when it last finished, whatever its status is now; NULL if it never has",
            "message": "why it failed or stopped",
        },
    ),
    "evaluations": (
        "An architecture measured under a setting, once for all runs.",
        {
            "run_id": "the run that measured it; NULL once that run is deleted",
            "parameters": "parameters of the architecture",
            "seconds": "how long measuring took",
            "measured_utc": "when it was measured",
        },
    ),
    "metric_values": (
        "The measured numbers.",
        {
            "value": "the number, finite",
            "standard_error": "its standard error in the same unit; NULL if unknown",
            "count": "tokens or questions behind it",
            "setting_id": "that of the evaluation, repeated for the index that finds the best",
            "parameters": "those of the evaluation, repeated for the same index",
        },
    ),
    "provenances": ("What was installed where evaluations were made.", PROVENANCE),
    "run_evaluations": (
        "Evaluations a run used.",
        {
            "position": "counts what the run used, from 1",
            "stage": "stage of the run, e.g. `pairs` or `verify`",
            "cached": "1 if it was found instead of measured",
        },
    ),
    "failures": (
        "Architectures that could not be measured.",
        {"reason": "why the last attempt failed", "attempts": "how many there were", "last_utc": "when the last was"},
    ),
    "steps": (
        "What steps around an architecture change, estimated to second order, under settings of one metric.",
        {
            "changes_json": "`[layer, KV groups, heads per group, MLP width, slope, curvature]` for each step: the "
            "change to first order and what the second order adds, on the scale that predictors learn",
            "seconds": "how long the latest estimate took",
            "measured_utc": "when it was made",
            "version": "of what estimated them; a run takes up nothing of another version than its own",
        },
    ),
    "leases": (
        "Evaluations some process is at, so that no other one measures them too.",
        {"holder": "the process", "expires_utc": "when others may take it over, unless it is renewed"},
    ),
}

VIEWS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "measurements": (
        "One row an architecture under one model, pruner and dtype, with a column for every metric there is, named "
        "like it: NULL if not measured; of several evaluators of one metric, the one with most tokens or questions.",
        {
            **UNDER,
            **ARCHITECTURE,
            "pruner_key": "content key of the pruner",
            "measured_utc": "when its first evaluation was made",
            "run_id": "the run that made that",
        },
    ),
    "metric_measurements": (
        "One row a measured number, with everything that is known about it.",
        {
            **UNDER,
            **ARCHITECTURE,
            **PROVENANCE,
            "family": "name of the model family",
            "pruner_version": "version of the pruner plugin",
            "evaluator": "name of the evaluator",
            "evaluator_version": "version of the evaluator plugin",
            "evaluator_options_json": "its options",
            "metric": "name of the metric",
            "value": "the number",
            "standard_error": "its standard error",
            "count": "tokens or questions behind it",
            "unit": "its unit",
            "direction": "what is better, `minimize` or `maximize`",
            "layers_json": "`[[KV groups, heads per group, width], ...]`",
            "run_id": "the run that measured it",
            "seconds": "how long the evaluation took",
            "measured_utc": "when it was made",
        },
    ),
    "pareto": (
        "Measurements that no other of the same model, metric and evaluator beats in value or parameters without "
        "losing in the other. Pruners and dtypes compete; of equal ones under one setting, the first measured stands "
        "for all.",
        {
            **UNDER,
            **ARCHITECTURE,
            "metric": "name of the metric",
            "value": "the number",
            "standard_error": "its standard error",
            "direction": "what is better, `minimize` or `maximize`",
            "evaluator": "name of the evaluator",
            "evaluator_options_json": "its options",
        },
    ),
    "run_summary": (
        "One row a run: what it used, and what that cost and saved.",
        {
            "run_id": "the run",
            "name": "its name",
            "key": "its content key",
            "status": "how it stands",
            "started_utc": "when it was last started",
            "finished_utc": "when it ended",
            "message": "why it failed or stopped",
            "evaluations": "evaluations it used",
            "measured": "those it measured",
            "reused": "those it found",
            "seconds_spent": "time spent measuring",
            "seconds_saved": "time that what it found had taken",
        },
    ),
    "quality_cards": (
        "How good the predictor of each finished run is on pairs it has not seen: one row a metric, one for the "
        "objective of the search, and one for the mean over the metrics. Targets are standardised.",
        {
            "run_id": "the run",
            "name": "its name",
            "predictor": "its predictor",
            "pairs": "measured architectures it was judged on, in all",
            "held_out": "how many of them each split holds out",
            "splits": "random splits the scores are a mean over",
            "target": "name of the metric, `objective`, or `overall` for the mean over the metrics",
            "r2": "coefficient of determination",
            "mse": "mean squared error",
            "rmse": "root mean squared error",
            "mae": "mean absolute error",
            "kendall_tau": "rank correlation, Kendall",
            "spearman_rho": "rank correlation, Spearman",
            "regret": "how much worse the best of the top predicted is than the best held-out pair",
            "coverage_68": "share within one predicted standard deviation; 0.683 is right",
            "coverage_95": "share within 1.96 of them; 0.95 is right",
            "calibration_error": "mean absolute difference of probability and share over central intervals",
        },
    ),
    "architecture_layers": (
        "One row a layer of every architecture.",
        {
            "architecture_key": "content key of the architecture",
            "layer": "number of the layer, from 0",
            "kv_groups": "KV heads it keeps",
            "heads_per_group": "query heads a group",
            "mlp_width": "channels of the MLP",
        },
    ),
}

_LABELS = {"models": "source", "settings": "dtype", "runs": "name", "metrics": "name", "provenances": "device"}


def page(text: str) -> str:
    """``docs/registry.md`` with the part between its marks written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{_markdown()}{END}{after}"


def datasette_yaml() -> str:
    """``datasette.yaml``: what tables, views and columns mean, and what rows are called where others link them."""
    with closing(_empty()) as connection:
        tables = {
            name: {
                "description": about,
                **({"label_column": _LABELS[name]} if name in _LABELS else {}),
                "columns": {column: _meaning(name, column) for column in _columns(connection, name)},
            }
            for name, (about, _) in {**VIEWS, **TABLES}.items()
        }
    metadata: dict[str, Any] = {
        "title": "prunecast registry",
        "description": "Every architecture that was measured.",
        "databases": {"registry": {"tables": tables}},
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=120)


def _markdown() -> str:
    lines = [f"Schema version {SCHEMA_VERSION}.\n\n## Views\n"]
    with closing(_empty()) as connection:
        lines += [_section(connection, name, about) for name, (about, _) in VIEWS.items()]
        lines.append("## Tables\n")
        lines += [_section(connection, name, about) for name, (about, _) in TABLES.items()]
    return "\n".join(lines)


def _section(connection: sqlite3.Connection, name: str, about: str) -> str:
    rows = [
        f"| `{column}` | {kind} | {_meaning(name, column)} |" for column, kind in _columns(connection, name).items()
    ]
    return "\n".join([f"### {name}\n\n{about}\n", "| column | type | meaning |", "| --- | --- | --- |", *rows, ""])


def _columns(connection: sqlite3.Connection, name: str) -> dict[str, str]:
    keys = {row[3]: f"-> {row[2]}" for row in connection.execute(f"PRAGMA foreign_key_list({name})")}
    return {row[1]: keys.get(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({name})")}


def _meaning(table: str, column: str) -> str:
    meanings = {**TABLES, **VIEWS}[table][1]
    if column in meanings:
        return meanings[column]
    return "number of the row" if column == "id" else f"its row in {_REFERRED[column]}"


_REFERRED = {
    "model_id": "models",
    "pruner_id": "pruners",
    "evaluator_id": "evaluators",
    "setting_id": "settings",
    "architecture_id": "architectures",
    "run_id": "runs",
    "provenance_id": "provenances",
    "evaluation_id": "evaluations",
    "metric_id": "metrics",
}


def _empty() -> sqlite3.Connection:
    database = Database(sqlite3.connect(":memory:", isolation_level=None), execute_plugins=False)
    migrate(database)
    connection: sqlite3.Connection = database.conn
    return connection


if __name__ == "__main__":
    document, metadata = map(Path, sys.argv[1:])
    document.write_text(page(document.read_text(encoding="utf-8")), encoding="utf-8")
    metadata.write_text(datasette_yaml(), encoding="utf-8")
