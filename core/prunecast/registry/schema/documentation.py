"""Documentation of the schema: meanings of tables, views and columns, for ``docs/reference/registry.md`` and Datasette.

``python -m prunecast.registry.schema.documentation docs/reference/registry.md datasette.yaml``, or ``make schema``,
writes both.
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
    "name": "name after `use:` in a spec",
    "version": "version number, raised by its author when the same options would give other numbers",
    "options_json": "options that differ from their defaults and can change a number",
    "data_hash": "hash of the tokens it reads; NULL if it reads none",
    "distribution": "distribution and version it was first recorded with",
    "code_hash": "hash of its code if it is a local file; NULL if it is installed, or not used since schema version 7",
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
    "architecture": "sizes that each layer keeps, `KVxH+width`; a run of equal layers as `*count`",
    "architecture_key": "content key of the architecture",
    "parameters": "parameters of the architecture",
    "kept": "parameters as a fraction of the dense model",
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
            "source": "alias, Hub id, folder or file it came from; not part of its identity",
            "family": "name of the model family",
            "parameters": "parameters of the dense model",
            "shape_json": "its sizes, which determine the parameters of any of its architectures",
            "made_from_json": "the models it was made from by pruning, the original first, each with its source, "
            "fingerprint, run and what was kept; not part of its identity",
        },
    ),
    "pruners": ("Plugins that rank the units of a model and compensate for removed ones.", PLUGIN),
    "evaluators": ("Plugins that measure.", PLUGIN),
    "settings": (
        "Conditions of evaluations: together with an architecture they determine the numbers.",
        {"dtype": "number format of the weights while measuring"},
    ),
    "metrics": (
        "Measured quantities.",
        {
            "name": "`DATASET.SPLIT.METRIC`",
            "direction": "`minimize` if smaller is better, `maximize` if larger is",
            "unit": "its unit",
            "scale": "`log` for positive ratios such as perplexity, else `linear`",
        },
    ),
    "layers": (
        "Each distinct layer once.",
        {
            "kv_groups": "KV heads it keeps, each read by one group of query heads",
            "heads_per_group": "query heads a group",
            "mlp_width": "channels of the MLP",
        },
    ),
    "architectures": (
        "Architectures, as lists of layers; the view `architecture_layers` has one row for each layer.",
        {
            "key": "content key: hash of the layers, 16 bytes",
            "depth": "number of layers",
            "layer_ids_json": "ids of its layers, first to last",
        },
    ),
    "runs": (
        "Runs of specs; a spec that is run again continues its run.",
        {
            "key": "content key of the resolved spec",
            "name": "name from the spec",
            "status": "`running`, `finished`, `failed` or `interrupted`; a killed process leaves `running` behind: the "
            "view `run_summary` has `interrupted` then",
            "started_utc": "time of its last start",
            "finished_utc": "time of its end; NULL while it runs",
            "spec_json": "the resolved spec",
            "spec_text": "text of the spec file",
            "result_json": "result of the last time it finished, kept if it is started again; NULL if it never has",
            "message": "reason it failed or stopped",
            "identity_json": "hashes of model, tokenizer, dtype, data and code, by description; `{}` if it was last "
            "started before schema version 8",
        },
    ),
    "evaluations": (
        "Evaluations: one for each measured architecture and setting, shared by all runs.",
        {
            "run_id": "the run that measured it; NULL once that run is deleted",
            "parameters": "parameters of the architecture",
            "seconds": "duration of the evaluation",
            "measured_utc": "time of the evaluation",
        },
    ),
    "metric_values": (
        "Measured numbers.",
        {
            "value": "the number, finite",
            "standard_error": "its standard error in the same unit; NULL if unknown",
            "count": "number of tokens or questions it was measured on",
            "setting_id": "setting of the evaluation, repeated for the index that finds the best",
            "parameters": "parameters of the evaluation, repeated for the same index",
        },
    ),
    "provenances": ("Versions and devices that evaluations were made with.", PROVENANCE),
    "run_evaluations": (
        "Evaluations that runs used.",
        {
            "position": "number of the row within its run, from 1",
            "stage": "stage of the run, e.g. `pairs` or `verify`",
            "cached": "1 if the run found it instead of measuring it",
        },
    ),
    "failures": (
        "Architectures that could not be measured.",
        {"reason": "reason of the last failure", "attempts": "number of attempts", "last_utc": "time of the last one"},
    ),
    "steps": (
        "Local sensitivities around an architecture, to second order, under settings of one metric.",
        {
            "changes_json": "`[layer, KV groups, heads per group, MLP width, slope, curvature]` for each other size of "
            "a layer: the first-order and the second-order term of the change, on the scale that predictors learn",
            "seconds": "duration of the estimate",
            "measured_utc": "time of the estimate",
            "version": "version of the estimator; a run reuses only rows of its own version",
        },
    ),
    "leases": (
        "Evaluations that a process is making, so that no other process makes them too.",
        {"holder": "the process", "expires_utc": "time from which others may take it over, unless it is renewed"},
    ),
    "exports": (
        "Files that were written of the models of runs, compared with the measured model in the engine that they are "
        "for. NULL stands for what was not compared; an engine is NULL if it was not installed.",
        {
            "target": "the exporter and the options that are not left at their defaults, e.g. `gguf-q8_0`",
            "folder": "the folder, absolute",
            "architecture": "what the model keeps, layer by layer",
            "parameters": "numbers in its weights, those of stand-ins included",
            "bytes": "size of all its files",
            "notes_json": "what stands in for what, and what else is not as in the measured model",
            "engine": "name and version of the engine",
            "compared": "the numbers whose largest difference is given",
            "max_difference": "largest absolute difference of these numbers",
            "greedy_equal": "tokens of a greedy continuation that are the same, from the first on",
            "greedy": "tokens of the continuation",
            "tokens": "tokens of the text that the perplexities are of",
            "perplexity": "perplexity of the text in the engine",
            "reference_perplexity": "perplexity of the text by the measured model",
            "load_seconds": "time to load the files",
            "prefill": "tokens a second that the engine reads",
            "decode": "tokens a second that the engine generates, one sequence at a time",
            "exported_utc": "time of the export",
        },
    ),
    "component_times": (
        "Tables of measured times of the components of a model, which add up to the predicted speed of any of its "
        "architectures. Each is measured once.",
        {
            "key": "content key of the sizes of the model, the sizes that are timed and the other conditions",
            "family": "its family",
            "device": "name of the device",
            "dtype": "number format",
            "threads": "threads of torch",
            "batch": "sequences in a batch",
            "context": "tokens of each prompt",
            "engine": "what the models ran in",
            "times_json": "nanoseconds of a prefill and of a decoding step: `fixed` without any component, and for "
            "each kind of layer those of attentions [KV groups, heads per group, times] and of MLPs [width, times]",
            "seconds": "time that the measurements took",
            "measured_utc": "time of the measurement",
        },
    ),
    "run_leases": (
        "Processes that execute a run. Without one, or with expired ones only, a run that is `running` was killed.",
        {"holder": "the process", "expires_utc": "time from which it counts as gone, unless it is renewed"},
    ),
}

VIEWS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "measurements": (
        "One row for each architecture under one model, pruner and dtype, with a column for each metric: NULL if it "
        "was not measured; if several evaluators measured it, the value with most tokens or questions.",
        {
            **UNDER,
            **ARCHITECTURE,
            "pruner_key": "content key of the pruner",
            "measured_utc": "time of its first evaluation",
            "run_id": "the run that made its first evaluation",
        },
    ),
    "metric_measurements": (
        "One row for each measured number, with its setting and provenance.",
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
            "count": "number of tokens or questions it was measured on",
            "unit": "its unit",
            "direction": "`minimize` if smaller is better, `maximize` if larger is",
            "layers_json": "`[[KV groups, heads per group, width], ...]`",
            "run_id": "the run that measured it",
            "seconds": "duration of the evaluation",
            "measured_utc": "time of the evaluation",
        },
    ),
    "pareto": (
        "Pareto-optimal measurements: no other one of the same model, metric and evaluator is better in value or "
        "parameters without being worse in the other. Pruners and dtypes are compared; of equal measurements under one "
        "setting only the first is listed.",
        {
            **UNDER,
            **ARCHITECTURE,
            "metric": "name of the metric",
            "value": "the number",
            "standard_error": "its standard error",
            "direction": "`minimize` if smaller is better, `maximize` if larger is",
            "evaluator": "name of the evaluator",
            "evaluator_options_json": "its options",
        },
    ),
    "run_summary": (
        "One row for each run: the evaluations it used, and the time they took and saved.",
        {
            "run_id": "the run",
            "name": "its name",
            "key": "its content key",
            "status": "its status",
            "started_utc": "time of its last start",
            "finished_utc": "time of its end; NULL while it runs",
            "message": "reason it failed or stopped",
            "evaluations": "number of evaluations it used",
            "measured": "number it measured",
            "reused": "number it found instead of measuring them",
            "seconds_spent": "time spent measuring",
            "seconds_saved": "time that measuring the reused ones had taken",
        },
    ),
    "quality_cards": (
        "Held-out scores of the predictor of each finished run: one row for each metric, one for the objective of the "
        "search, and one for the mean over the metrics. Targets are standardised.",
        {
            "run_id": "the run",
            "name": "its name",
            "predictor": "its predictor",
            "pairs": "number of measured architectures, training and held-out together",
            "held_out": "number of them that each split holds out",
            "splits": "number of random splits that the scores are averaged over",
            "target": "name of the metric, `objective`, or `overall` for the mean over the metrics",
            "r2": "coefficient of determination",
            "mse": "mean squared error",
            "rmse": "root mean squared error",
            "mae": "mean absolute error",
            "kendall_tau": "rank correlation, Kendall",
            "spearman_rho": "rank correlation, Spearman",
            "regret": "difference of the best of the top predicted to the best held-out pair, in standard deviations",
            "coverage_68": "share of targets within one predicted standard deviation; 0.683 is calibrated",
            "coverage_95": "share of targets within 1.96 predicted standard deviations; 0.95 is calibrated",
            "calibration_error": "mean absolute difference of probability and share of targets, over central intervals",
        },
    ),
    "architecture_layers": (
        "One row for each layer of each architecture.",
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
    """The text of ``docs/reference/registry.md`` with the part between its marks generated again."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{_markdown()}{END}{after}"


def datasette_yaml() -> str:
    """Content of ``datasette.yaml``: meanings of tables, views and columns, and the label column of linked rows."""
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
        "description": "Every measured architecture.",
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
