"""Queries among the commands of ``prunecast registry``."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, echo_lines, print_json, registry_option, rows_option, show_rows, table
from prunecast.cli.tables import KEY_DIGITS, fitted, say_left_out, show_fitted, wide_option
from prunecast.text import percent, text, visible

if TYPE_CHECKING:
    from prunecast.registry import Registry
    from prunecast.registry.queries.pareto import Front
    from prunecast.registry.queries.ranges import Ranges
    from prunecast.registry.queries.selection import Filter

BAR = 16
"""Length of a full bar in characters."""


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the filters that all queries share, as keyword arguments for :func:`_filter`."""
    options = (
        click.option(
            "--model",
            shell_complete=completion.models,
            help="Only this model: its source, or the first digits of its fingerprint.",
        ),
        click.option(
            "--metric",
            "metrics",
            multiple=True,
            shell_complete=completion.metrics,
            metavar="NAME",
            help="Only architectures with this metric; repeatable.",
        ),
        click.option(
            "--budget",
            "budgets",
            multiple=True,
            metavar="QUANTITY=RANGE",
            help="Only in this range, e.g. parameters=0.75..0.85, or up to a limit, e.g. parameters=0.8 or macs=3e8; "
            "repeatable.",
        ),
        click.option("--where", metavar="SQL", help="SQL condition on the columns, e.g. 'kept < 0.8'."),
        click.option(
            "--run",
            shell_complete=completion.runs,
            help="Only evaluations that this run used: its number, name or key.",
        ),
        click.option(
            "--since",
            metavar="TIME",
            help="Only evaluations since TIME: 2026-11-24, 2026-11-24T10:00, or 3d or 12h ago.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def limit_option(rows: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add ``--limit`` with the default ``rows``."""
    return click.option(
        "--limit", type=click.IntRange(min=1), default=rows, show_default=True, help="Maximum number of rows."
    )


@click.command()
@filter_options
@click.option("--sort", metavar="COLUMN", help="Column to sort by; -COLUMN for descending order.")
@limit_option(20)
@registry_option
@rows_option
@wide_option
def query(sort: str | None, limit: int, registry_path: str, form: str | None, wide: bool, **filters: Any) -> None:
    """List measured architectures, with their metrics as columns."""
    from prunecast.registry import Registry
    from prunecast.registry.queries.selection import count, query

    wanted = _filter(**filters)
    with Registry.open(registry_path, readonly=True) as opened:
        rows = query(opened, wanted, sort, limit)
        total = count(opened, wanted) if len(rows) == limit else len(rows)
        metrics = _asked(opened, wanted, sort)
    _show_architectures(rows, total, metrics, form, wide)


@click.command()
@click.argument("metric", shell_complete=completion.metrics)
@filter_options
@limit_option(10)
@registry_option
@rows_option
@wide_option
def best(metric: str, limit: int, registry_path: str, form: str | None, wide: bool, **filters: Any) -> None:
    """List the best measured architectures by METRIC."""
    from prunecast.registry import Registry
    from prunecast.registry.queries.selection import best, count_by_evaluator

    wanted = _filter(**filters)
    with Registry.open(registry_path, readonly=True) as opened:
        rows = best(opened, metric, wanted, limit)
        counts = count_by_evaluator(opened, metric, wanted) if len(rows) == limit else {}
    # A table of rows by several evaluators names them; a cut one may show those of the smallest numbers alone.
    if len(counts) > 1 and len({row[f"{metric}.evaluator"] for row in rows}) == 1:
        echo(
            f"the rows that match are of {len(counts)} evaluators, whose numbers are not comparable: "
            f"{'; '.join(counts)}; choose one by a condition on {metric}.evaluator (--where), or a --run",
            err=True,
        )
    _show_architectures(rows, sum(counts.values()) or len(rows), [], form, wide)


@click.command()
@click.argument("criteria", nargs=-1, required=True, shell_complete=completion.metrics)
@filter_options
@click.option("--device", metavar="NAME", help="Speeds on this device, if several are recorded.")
@click.option("--threads", type=click.IntRange(min=1), help="Speeds with so many threads, if several are recorded.")
@click.option("--batch", type=click.IntRange(min=1), help="Speeds of so many sequences, if several are recorded.")
@click.option(
    "--context", type=click.IntRange(min=1), help="Speeds of prompts of so many tokens, if several are recorded."
)
@registry_option
@rows_option
@wide_option
def pareto(
    criteria: tuple[str, ...],
    device: str | None,
    threads: int | None,
    batch: int | None,
    context: int | None,
    registry_path: str,
    form: str | None,
    wide: bool,
    **filters: Any,
) -> None:
    """List the Pareto front of two or three CRITERIA: metrics, or quantities such as parameters.

    prefill_ms and decode_ms are predicted from recorded component times; architectures without any are left out.
    """
    from prunecast.registry import Registry
    from prunecast.registry.queries.pareto import pareto
    from prunecast.registry.queries.speeds import Conditions

    wanted, conditions = _filter(**filters), Conditions(device, threads, batch, context)
    with Registry.open(registry_path, readonly=True) as opened:
        front = pareto(opened, criteria, wanted, conditions)
    for line in _told(front):
        echo(visible(line), err=True)
    _show_architectures(front.rows, len(front.rows), [], form, wide)


def _told(front: "Front") -> list[str]:
    """What the speeds of a front are of, and what it leaves out, a line each."""
    lines = [
        f"predicted for {model}: {'; '.join(map(str, tables))}" for model, tables in front.speeds.items() if tables
    ]
    if front.left_out:
        counts = ", ".join(f"{count:,} of {what}" for what, count in front.left_out.items())
        lines.append(
            f"left out, as no component times are recorded for them: {counts}; a run whose budget limits prefill_ms or "
            "decode_ms measures them"
        )
    return lines


@click.command()
@click.argument("architecture")
@filter_options
@limit_option(10)
@registry_option
@rows_option
@wide_option
def nearest(architecture: str, limit: int, registry_path: str, form: str | None, wide: bool, **filters: Any) -> None:
    """List the measured architectures nearest to ARCHITECTURE (text or first digits of a key).

    The distance of two architectures is the share of all attention and MLP parameters in which they differ.
    """
    from prunecast.registry import Registry
    from prunecast.registry.queries.nearest import nearest
    from prunecast.registry.queries.selection import count
    from prunecast.registry.queries.show import find_architecture

    wanted = _filter(**filters)
    with Registry.open(registry_path, readonly=True) as opened:
        asked = find_architecture(opened, architecture)
        rows = nearest(opened, asked, wanted, limit)
        total = count(opened, wanted, len(asked.layers)) if len(rows) == limit else len(rows)
        metrics = _asked(opened, wanted)
    _show_architectures(rows, total, metrics, form, wide)


@click.command()
@click.argument("first", shell_complete=completion.runs)
@click.argument("second", shell_complete=completion.runs)
@registry_option
@rows_option
@wide_option
def compare(first: str, second: str, registry_path: str, form: str | None, wide: bool) -> None:
    """Compare the runs FIRST and SECOND (number, name or key) side by side."""
    from prunecast.registry import Registry
    from prunecast.registry.queries.compare_runs import compare

    with Registry.open(registry_path, readonly=True) as opened:
        rows = compare(opened, first, second)
    show_fitted(rows, form, wide, "nothing to compare")


@click.command()
@registry_option
@rows_option
def stats(registry_path: str, form: str | None) -> None:
    """Print the size of the registry: rows by table, seconds spent and saved, bytes."""
    from prunecast.registry import Registry
    from prunecast.registry.queries.stats import stats

    with Registry.open(registry_path, readonly=True) as opened:
        counts = stats(opened)
    if form == "json":
        print_json(counts)
        return
    rows = [{"what": name, "count": count} for name, count in counts.items()]
    show_rows(rows, form, "", lambda row: {"": row["what"].replace("_", " "), "count": row["count"]})


@click.command()
@click.argument("architecture")
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(architecture: str, registry_path: str, as_json: bool) -> None:
    """Show ARCHITECTURE (text or first digits of its key): layers as bars, and all metrics with their origin."""
    from prunecast.registry import Registry
    from prunecast.registry.queries.show import find_architecture, show

    with Registry.open(registry_path, readonly=True) as opened:
        shown = show(opened, find_architecture(opened, architecture))
    print_json(shown) if as_json else echo_lines(_drawn(shown))


@click.command()
@click.argument("statement")
@registry_option
@rows_option
def sql(statement: str, registry_path: str, form: str | None) -> None:
    """Run a SELECT STATEMENT on the registry, read-only.

    Of columns of the same name, all but the first get a number: id, id_2.
    """
    from prunecast.registry import Registry
    from prunecast.registry.queries.stats import sql

    with Registry.open(registry_path, readonly=True) as opened:
        rows = sql(opened, statement)
    show_rows(rows, form, "no rows")


def _filter(
    model: str | None,
    metrics: tuple[str, ...],
    budgets: tuple[str, ...],
    where: str | None,
    run: str | None,
    since: str | None,
) -> "Filter":
    from prunecast.registry.queries.selection import Filter

    return Filter(model, metrics, _ranges(budgets), where, run, since)


def _ranges(budgets: tuple[str, ...]) -> "Ranges":
    from prunecast.errors import RegistryError
    from prunecast.registry.queries.ranges import parse_ranges

    parts = (each.partition("=") for each in budgets)
    try:
        return parse_ranges({quantity: limits for quantity, _, limits in parts})
    except RegistryError as error:
        raise click.BadParameter(str(error), param_hint="--budget") from error


def _asked(registry: "Registry", wanted: "Filter", sort: str | None = None) -> list[str]:
    """Metrics of the run that the filter names, and the column to sort by, if no metric is asked for; else none."""
    from prunecast.registry.queries.selection import metrics_of_run

    if wanted.metrics or wanted.run is None:
        return []
    return [*metrics_of_run(registry, wanted.run), *([sort.removeprefix("-")] if sort else [])]


def _show_architectures(
    rows: Sequence[Mapping[str, Any]], total: int, metrics: Sequence[str], form: str | None, wide: bool
) -> None:
    """Print rows of architectures: in a table the columns that fit a terminal, in the other forms all columns.

    Args:
        rows: the rows.
        total: number of rows that there are without a limit.
        metrics: only these metrics; empty for all.
        form: ``json``, ``csv`` or ``nl``; None for a table.
        wide: True for a table of all columns.
    """
    measured = [name.removesuffix(".evaluator") for name in (rows[0] if rows else ()) if name.endswith(".evaluator")]
    # Values of different evaluators are not comparable, so a table that mixes them has to name the evaluator.
    mixed = [f"{name}.evaluator" for name in measured if len({row[f"{name}.evaluator"] for row in rows} - {None}) > 1]
    filled = [name for name in measured if any(row[name] is not None for row in rows) and name in (metrics or measured)]
    hidden = {*measured, "seconds", "measured_utc", "run", "key", "architecture"} - {*filled}

    def short(row: Mapping[str, Any]) -> Mapping[str, Any]:
        head = {"run": row["run"], "key": row["key"][:KEY_DIGITS]}
        distance = {"distance": f"{row['distance']:.4f}"} if "distance" in row else {}
        shown = {name: value for name, value in row.items() if name not in hidden and not _is_detail(name, measured)}
        return {**head, **shown, **distance, "kept": percent(row["kept"]), **{name: row[name] for name in mixed}}

    show_fitted(
        *(rows, form, wide, "no measured architecture matches", short),
        described=("model", "pruner", "dtype", *mixed),
        optional=filled,
    )
    say_left_out(len(rows), total, form)


def _is_detail(column: str, metrics: Sequence[str]) -> bool:
    """True for the column of the standard error or the evaluator of a metric."""
    name, _, detail = column.rpartition(".")
    return name in metrics and detail in ("standard_error", "evaluator")


def _drawn(shown: Mapping[str, Any]) -> str:
    blocks = [f"{shown['architecture']}\nkey {shown['key']}"]
    for model in shown["models"]:
        quantities = ", ".join(
            f"{model[name]:,} {name.replace('_', ' ')}" for name in ("parameters", "macs", "kv_cache_bytes")
        )
        blocks.append(f"{visible(model['model'])}: {percent(model['kept'])} kept, {quantities}")
        rows = [_layer_row(layer) for layer in model["layers"]]
        blocks.append(table(["layer", "attention", "", "mlp", ""], rows))
    blocks.append(
        fitted([_number(row) for row in shown["measurements"]], ("measured by", "pruned by", "with", "in"))[0]
    )
    return "\n\n".join(blocks)


def _number(row: Mapping[str, Any]) -> dict[str, str]:
    """Columns of a measured number and its origin."""
    return {
        "metric": row["metric"],
        "value": text(row["value"]),
        "+-": text(row["standard_error"]),
        "measured by": row["evaluator"],
        "pruned by": row["pruner"],
        "in": f"{row['dtype']} on {row['device']}",
        "run": "" if row["run"] is None else str(row["run"]),
        "when": row["measured_utc"][:10],
        "with": f"prunecast {row['prunecast']}, torch {row['torch']}, transformers {row['transformers']}",
    }


def _layer_row(layer: Mapping[str, int]) -> list[str]:
    heads = layer["kv_groups"] * layer["heads_per_group"]
    return [
        str(layer["layer"]),
        _bar(heads, layer["dense_kv_groups"] * layer["dense_heads_per_group"]),
        f"{layer['kv_groups']}x{layer['heads_per_group']}" if heads else "none",
        _bar(layer["mlp_width"], layer["dense_mlp_width"]),
        str(layer["mlp_width"] or "none"),
    ]


def _bar(kept: int, dense: int) -> str:
    """A bar whose length is the share kept; the rest are dots."""
    length = -(-BAR * kept // max(dense, 1))
    return "█" * length + "·" * (BAR - length)
