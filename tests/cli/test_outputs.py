"""Output of commands, compared with ``golden/``. RENEW_GOLDEN=1 rewrites the files; review the difference."""

import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from places import SHIPPED_REGISTRY

from prunecast.cli.main import cli
from prunecast.registry import Registry

GOLDEN = Path(__file__).with_name("golden")
QUERY = ("registry", "query")
BEST = ("registry", "best", "wikitext2.test.ppl")
TERMINAL = {"COLUMNS": "80"}
IMPORT = ("registry", "import")
SQL = ("registry", "sql", "SELECT name, direction FROM metrics")

COMMANDS = {
    "plugins-show-layerwise": ("plugins", "show", "layerwise"),
    "registry-models": ("registry", "models"),
    "registry-metrics": ("registry", "metrics", "--model", "smollm2-135m"),
    "registry-stats": ("registry", "stats"),
    "registry-stats-json": ("registry", "stats", "--json"),
    "registry-query": QUERY,
    "registry-query-wide": (*QUERY, "--wide"),
    "registry-query-sorted": (*QUERY, "--metric", "wikitext2.test.ppl", "--sort", "-kept", "--limit", "3"),
    "registry-query-filtered": (
        *QUERY,
        "--budget",
        "macs=0.6..0.95",
        "--where",
        '"ptb.test.ppl" < 100',
        "--since",
        "1d",
    ),
    "registry-query-json": (*QUERY, "--limit", "1", "--json"),
    "registry-query-csv": (*QUERY, "--csv"),
    "registry-query-nl": (*QUERY, "--run", "smollm2-80", "--nl"),
    "registry-best": (*BEST, "--budget", "parameters=0.9"),
    "registry-best-two-limits": (*BEST, "--budget", "parameters=0.9", "--budget", "kv_cache_bytes=0.97"),
    "registry-best-json": (*BEST, "--budget", "parameters=110000000", "--limit", "1", "--json"),
    "registry-pareto": ("registry", "pareto", "wikitext2.test.ppl", "parameters"),
    "registry-pareto-three": ("registry", "pareto", "wikitext2.test.ppl", "ptb.test.ppl", "kv_cache_bytes", "--nl"),
    "registry-nearest": ("registry", "nearest", "3x3+1536*4 3x2+1024*24 3x3+1536*2"),
    "registry-show": ("registry", "show", "3x3+1536*3 0+768 3x2+512*24 3x3+1536*2"),
    "registry-compare": ("registry", "compare", "smollm2-80", "too-small"),
    "registry-compare-json": ("registry", "compare", "1", "2", "--json"),
    "registry-import-evopress": (*IMPORT, "drop.txt", "--format", "evopress", "--model", "smollm2-135m"),
    "registry-import-puzzletron": (*IMPORT, "config.json", "--format", "puzzletron", "--model", "0123", "--nl"),
    "registry-import-darwinlm": (
        *(*IMPORT, "levels.txt", "--format", "darwinlm", "--model", "smollm2-135m"),
        *("--cols-removed-attn", "0,192,384", "--cols-removed-mlp", "0,512,1024"),
    ),
    "registry-publish": ("registry", "publish", "./shared"),
    "registry-sql-csv": (*SQL, "--csv"),
    "registry-sql": SQL,
    "registry-sql-json": (*SQL, "--json"),
    "run-outline": ("run", "paper", "--dry-run", "--set", "recover.steps=1626"),
    "runs-list": ("runs", "list"),
    "runs-list-json": ("runs", "list", "--limit", "1", "--json"),
    "runs-compare": ("runs", "compare", "1", "too-small"),
    "runs-show-finished": ("runs", "show", "smollm2-80"),
    "runs-show-failed": ("runs", "show", "2"),
    "runs-show-json": ("runs", "show", "aaaa", "--json"),
}


def output_of(*arguments: str) -> str:
    """Output of a command, with dates and version replaced by fixed ones."""
    result = CliRunner().invoke(cli, arguments, standalone_mode=False, prog_name="prunecast", env=TERMINAL)
    assert (result.return_value, result.stderr) == (0, "")
    dated = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2025-01-31T12:00:00Z", result.stdout)
    dated = re.sub(r"\b\d{4}-\d\d-\d\d\b(?!T)", "2025-01-31", dated)
    return re.sub(r"(prunecast|torch|transformers) \d[\w.+]*", r"\1 0.1.0", dated)


def assert_golden(name: str, found: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if "RENEW_GOLDEN" in os.environ:
        path.write_text(found)
    assert found == path.read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_output_equals_the_golden_file(filled: Path, name: str) -> None:
    output = output_of(*COMMANDS[name])
    assert_golden(name, output)
    if name.endswith("-json"):
        json.loads(output)


def test_estimating_a_spec_creates_no_registry(tmp_path: Path) -> None:
    assert "petaflop" in output_of(*COMMANDS["run-outline"], "--registry", str(tmp_path / "registry.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "query",
        "query --run 92",
        "best wikitext2.validation.kl",
        "pareto parameters wikitext2.validation.kl ptb.validation.kl",
        "nearest 3x3+1536*30",
        "compare 92 71",
        "show 3x3+1536*30",
        "models",
        "metrics",
    ],
)
def test_tables_of_the_shipped_registry_fit_120_columns(command: str) -> None:
    arguments = ("registry", *command.split(), "--registry", str(SHIPPED_REGISTRY))
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    lines = result.stdout.splitlines()
    assert (result.return_value, [line for line in lines if len(line) > 120]) == (0, [])
    assert len(lines) > 4


def test_only_metrics_of_the_run_are_columns_and_rows_left_out_are_counted() -> None:
    arguments = (*QUERY, "--run", "92", "--limit", "4", "--registry", str(SHIPPED_REGISTRY))
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.stderr == "4 of 419 rows shown: --limit sets how many\n"
    head = result.stdout.split("\n\n")[1].split("---")[0]
    named = (
        "wikitext2. test. ppl ptb. test. ppl wikitext2. validation. kl wikipedia-spaced. validation. kl "
        "ptb. validation. kl run key parameters kept"
    )
    assert sorted(head.split()) == sorted(named.split())
    for_programs = CliRunner().invoke(cli, (*arguments, "--json"), standalone_mode=False)
    assert (len(json.loads(for_programs.stdout)), for_programs.stderr) == (4, "")


def test_runs_left_out_are_counted() -> None:
    arguments = ("runs", "list", "--registry", str(SHIPPED_REGISTRY))
    result = CliRunner().invoke(cli, (*arguments, "--limit", "3"), standalone_mode=False)
    count = len(json.loads(CliRunner().invoke(cli, (*arguments, "--limit", "999", "--json")).stdout))
    assert result.stderr == f"3 of {count} runs shown: --limit sets how many\n"


def test_tables_number_the_evaluators_if_several_measured_a_metric(measured_twice: Path) -> None:
    table, legend = output_of(*BEST).split("\n\n")[1:]
    assert [row.split()[-1] for row in table.splitlines()[-4:]] == ["[1]", "[2]", "[2]", "[2]"]
    assert legend.splitlines() == [
        "wikitext2.test.ppl.evaluator [1]  perplexity tokens=64",
        "wikitext2.test.ppl.evaluator [2]  perplexity dataset=wikitext2 split=test tokens=16384",
    ]
    assert "evaluator" not in output_of(*BEST, "--where", "\"wikitext2.test.ppl.evaluator\" LIKE '%16384'")


def test_merge_counts_new_records_and_lists_conflicts(filled: Path, theirs: Path) -> None:
    result = CliRunner().invoke(cli, ("registry", "merge", "theirs.db"), standalone_mode=False)
    assert_golden("registry-merge", result.stdout + result.stderr)
    again = CliRunner().invoke(cli, ("registry", "merge", "theirs.db", "--theirs"), standalone_mode=False)
    assert again.stderr.startswith(
        "new: 0 evaluations and 0 runs; here already: 3 evaluations; 1 conflicting number, th"
    )
    calm = CliRunner().invoke(cli, ("registry", "merge", "theirs.db"), standalone_mode=False)
    assert (calm.stdout, calm.stderr.count("conflict")) == ("", 1)


def test_export_import_and_pull_print_counts_on_stderr(filled: Path) -> None:
    absorbed = "new: 0 evaluations and 0 runs; here already: 5 evaluations; 0 conflicting numbers\n"
    for arguments, told in (
        (("export", "all.jsonl"), "all.jsonl: 7 records\n"),
        (("import", "all.jsonl"), absorbed),
        (("publish", "./shared"), ""),
        (("pull", "./shared"), absorbed),
    ):
        result = CliRunner().invoke(cli, ("registry", *arguments), standalone_mode=False)
        assert (result.return_value, result.stderr) == (0, told)


@pytest.mark.parametrize(("more", "stdout"), [((), ""), (("--json",), "[]\n")])
def test_no_matching_rows_are_an_empty_list_in_json_and_a_note_on_stderr(
    filled: Path, more: tuple[str, ...], stdout: str
) -> None:
    result = CliRunner().invoke(cli, (*BEST, "--budget", "parameters=0.1", *more), standalone_mode=False)
    assert (result.return_value, result.stdout) == (0, stdout)
    assert result.stderr == ("" if more else "no measured architecture matches\n")


# ------------------------------------------------------------------------------------------------------ plugins


def test_plugins_list_has_every_kind_and_its_table_is_aligned() -> None:
    rows = json.loads(output_of("plugins", "list", "--json"))
    kinds = {"family", "space", "pruner", "evaluator", "predictor", "searcher", "exporter", "executor"}
    assert {row["kind"] for row in rows} == kinds
    assert {
        "kind": "space",
        "name": "layerwise",
        "distribution": "prunecast",
        "version": "0.1.0",
        "state": "ok",
        "summary": "KV groups, query heads per group and MLP width of every layer",
        "reference": "arXiv 2309.09507, section 3.1",
    } in rows
    head, rule, *lines = output_of("plugins", "list").splitlines()
    assert head.split() == ["kind", "name", "distribution", "version", "state", "summary", "reference"]
    columns = [(dashes.start(), dashes.end()) for dashes in re.finditer("-+", rule)]
    cells = [[line[start:end].rstrip() for start, end in columns] for line in lines]
    assert cells == [list(row.values()) for row in rows]


def test_a_restarted_run_shows_its_status_and_earlier_result(filled: Path) -> None:
    finished = output_of("runs", "show", "1")
    with Registry.open(filled) as registry:
        record = registry.run(1)
        registry.start_run(record.key, record.name, record.spec_json, record.spec_text)
        registry.finish_run(1, "interrupted", None, "interrupted by the user")
    status = "run 1 (smollm2-80): interrupted. interrupted by the user\n\nResult of the last time it finished:\n\n"
    assert output_of("runs", "show", "1") == status + finished
    as_json = json.loads(output_of("runs", "show", "1", "--json"))
    assert (as_json["status"], as_json["result"]["name"]) == ("interrupted", "smollm2-80")


def test_plugins_show_in_json_has_the_schema_of_the_options() -> None:
    shown = json.loads(output_of("plugins", "show", "layerwise", "--json"))
    assert (shown["kind"], shown["name"]) == ("space", "layerwise")
    options = shown["options"]["properties"]
    assert {"layers", "attention", "mlp", "tie"} <= set(options)
    assert all(option["description"] for option in options.values())


def test_plugins_show_of_a_family_has_every_field_and_its_variants() -> None:
    shown = json.loads(output_of("plugins", "show", "falcon", "--json"))
    assert (shown["kind"], shown["summary"], Path(shown["file"]).name) == ("family", "Falcon 1 and 2", "falcon.yaml")
    assert shown["description"]["per_head"] == ["alibi", "attention_mask"]
    text = output_of("plugins", "show", "falcon").splitlines()
    assert text[:2] == ["family falcon, prunecast 0.1.0", "Falcon 1 and 2"]
    named = [line.split()[0] for line in text[5 : text.index("", 5)]]
    assert named == [field for field in shown["description"] if field != "variants"]
    follows = next(line for line in text if line.startswith("follows")).split(maxsplit=1)[1]
    assert follows.startswith("{num_heads: query_heads, num_kv_heads: kv_groups}  ")
    assert text[-1].startswith(
        "{parallel_attn: true, new_decoder_architecture: true, num_ln_in_parallel_attn: [null, 2]}"
    )


def test_plugins_schema_is_that_of_the_file_of_a_family() -> None:
    assert json.loads(output_of("plugins", "schema"))["required"] == ["name"]


def test_plugins_list_of_one_kind() -> None:
    rows = json.loads(output_of("plugins", "list", "--kind", "pruner", "--json"))
    assert {"taylor", "magnitude"} <= {row["name"] for row in rows}
    assert {row["kind"] for row in rows} == {"pruner"}


# -------------------------------------------------------------------------------------------------------- specs


@pytest.mark.parametrize("name", ["quickstart", "smollm2", "paper-smollm2"])
def test_packaged_specs_are_valid(name: str) -> None:
    assert re.fullmatch(rf"{name} is valid \(key [0-9a-f]{{32}}\)\n", output_of("spec", "validate", name))
    spec = json.loads(output_of("spec", "validate", name, "--set", "rounds=9", "--json"))
    assert (spec["name"], spec["rounds"], spec["space"]["use"]) == (name, 9, "layerwise")


def test_spec_schema_includes_the_plugins() -> None:
    schema = json.loads(output_of("spec", "schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "layerwise" in json.dumps(schema["$defs"])


# --------------------------------------------------------------------------------------------------------- help


def commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    below: dict[str, Any] = getattr(command, "commands", {})
    return [(path, command), *(found for name in sorted(below) for found in commands(below[name], (*path, name)))]


def test_help_of_every_command_equals_the_golden_file() -> None:
    helps = [output_of(*path, "--help") for path, _ in commands(cli)]
    assert_golden("help", "\n".join(helps))


def test_every_option_has_help() -> None:
    silent = [
        (*path, option.name)
        for path, command in commands(cli)
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []
