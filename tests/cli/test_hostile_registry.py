"""A registry that someone else made to do harm: nothing of it runs, nothing breaks, and each refusal is one line."""

import ast
import csv
import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from workplace import Outcome, Workplace

import prunecast.cli
from prunecast.cli.main import cli
from prunecast.registry import Registry
from prunecast.registry.schema.views import create_measurements
from prunecast.text import is_hidden

EVIL = "\x1b]0;owned\x07\x9b2J<script>alert(1)</script>|`x`[y](javascript:z) $\\frac{$\u202e\n# \r=cmd"
"""Control characters of terminals, markup of HTML and Markdown, half a formula, and line breaks."""

DENSE = "4x2+24*4"

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class Own(LlamaForCausalLM):
    config_class = OwnConfig
"""


def change(workplace: Workplace, *statements: str, **values: str) -> None:
    """Change the registry as anyone can who has SQLite, and make the view of the metrics again."""
    with closing(sqlite3.connect(workplace.registry)) as connection:
        for statement in statements:
            connection.execute(statement, values)
        create_measurements(connection)
        connection.commit()


@pytest.fixture
def renamed(continued: Workplace) -> Workplace:
    """The registry of a real run in which every name that a command prints is hostile."""
    metrics = [name for (name,) in continued.sql("SELECT name FROM metrics")]
    (result,) = (text for (text,) in continued.sql("SELECT result_json FROM runs"))
    for name in metrics:
        result = result.replace(json.dumps(name), json.dumps(name + EVIL))
    result = result.replace('"uniform"', json.dumps("uniform" + EVIL)).replace('"model"', '"model"')
    options = json.dumps({"dataset": EVIL, EVIL: 1})
    change(
        continued,
        "UPDATE metrics SET name = name || :evil",
        "UPDATE runs SET name = :evil, spec_text = :evil, message = :evil, result_json = :result",
        "UPDATE models SET source = :evil",
        "UPDATE evaluators SET name = :evil, options_json = :options",
        "UPDATE pruners SET name = :evil",
        "UPDATE provenances SET device = :evil, torch = :evil",
        evil=EVIL,
        result=result,
        options=options,
    )
    return continued


def metric_of(workplace: Workplace) -> str:
    return str(workplace.sql("SELECT name FROM metrics ORDER BY id")[0][0])


def hidden(text: str) -> str:
    return "".join(character for character in text if is_hidden(character) and character not in "\n\t")


COMMANDS: dict[str, Callable[[Workplace], list[str]]] = {
    "query": lambda _: ["registry", "query"],
    "query json": lambda _: ["registry", "query", "--json"],
    "query nl": lambda _: ["registry", "query", "--nl"],
    "query csv": lambda _: ["registry", "query", "--csv"],
    "query model": lambda _: ["registry", "query", "--model", EVIL],
    "best": lambda workplace: ["registry", "best", metric_of(workplace)],
    "pareto": lambda workplace: ["registry", "pareto", metric_of(workplace), "parameters"],
    "nearest": lambda _: ["registry", "nearest", DENSE],
    "show": lambda _: ["registry", "show", DENSE],
    "compare": lambda _: ["registry", "compare", "1", EVIL],
    "stats": lambda _: ["registry", "stats"],
    "sql": lambda _: ["registry", "sql", "SELECT * FROM metric_measurements"],
    "verify": lambda _: ["registry", "verify"],
    "runs": lambda _: ["runs", "list"],
    "run": lambda _: ["runs", "show", "1"],
    "run json": lambda _: ["runs", "show", "1", "--json"],
    "predict": lambda workplace: ["predict", DENSE, "--metric", metric_of(workplace)],
    "card": lambda workplace: [
        *("predictors", "card", "--predictor", "gp", "--model", EVIL, "--metric", metric_of(workplace)),
    ],
    "merge": lambda _: ["registry", "merge", "registry.db", "--registry", "ours.db"],
    "export": lambda _: ["registry", "export", "all.jsonl"],
    "publish": lambda _: ["registry", "publish", "./shared"],
    "report": lambda _: ["report", EVIL, "--out", "report"],
    "delete": lambda _: ["registry", "delete", "1", "--yes"],
    "missing": lambda _: ["runs", "show", "nothing"],
}


def test_no_command_prints_a_hostile_name_as_it_is(renamed: Workplace) -> None:
    for name, arguments in COMMANDS.items():
        outcome = renamed.prunecast(*arguments(renamed))
        fails = {"missing": 1, "verify": 1}  # the keys of the renamed evaluators are not those of their content
        assert outcome.code == fails.get(name, 0), (name, outcome.stderr)
        assert hidden(outcome.stdout + outcome.stderr) == "", name
        if "json" not in name and "nl" not in name:
            assert "\n# " not in outcome.stdout + outcome.stderr or name in ("query csv", "run"), name


def test_the_forms_for_programs_keep_the_values(renamed: Workplace) -> None:
    rows = renamed.prunecast("registry", "query", "--json").json
    assert {row["model"] for row in rows} == {EVIL}
    assert [json.loads(line) for line in renamed.prunecast("registry", "query", "--nl").stdout.splitlines()] == rows
    assert renamed.prunecast("runs", "show", "1", "--json").json["name"] == EVIL


def test_cells_that_a_spreadsheet_would_compute_are_text(continued: Workplace) -> None:
    statement = "SELECT '=1+1' AS '=a', -3 AS b, '+x' AS c, ' @y' AS d, '-z' AS e, -0.5 AS f, 'g' AS g, '\uff1dh' AS h"
    outcome = continued.prunecast("registry", "sql", statement, "--csv")
    head, row = csv.reader(io.StringIO(outcome.stdout))
    assert head == ["'=a", "b", "c", "d", "e", "f", "g", "h"]
    assert row == ["'=1+1", "-3", "'+x", "' @y", "'-z", "-0.5", "g", "'\uff1dh"]


def test_the_report_shows_hostile_names_as_text(renamed: Workplace) -> None:
    assert renamed.prunecast("report", "1", "--out", "report").code == 0
    page = (renamed.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert hidden(page) == ""
    assert "<script" not in page
    assert "\\x1b]0;owned\\x07\\x9b2J&lt;script&gt;alert(1)" in page
    assert "$\\frac{$" in page


def test_an_export_of_a_run_with_hostile_names_has_a_harmless_card(continued: Workplace) -> None:
    (result,) = (text for (text,) in continued.sql("SELECT result_json FROM runs"))
    result = result.replace('"uniform"', json.dumps("uniform" + EVIL))
    change(continued, "UPDATE runs SET name = :evil, result_json = :result", evil=EVIL, result=result)
    outcome = continued.prunecast("export", "1", "again")
    assert outcome.code == 0, outcome.stderr
    card = (continued.folder / "again" / "README.md").read_text(encoding="utf-8")
    assert hidden(card) == ""
    assert "<script" not in card
    assert "| uniform\\\\x1b\\]0;owned" in card
    assert card.startswith("---\n")
    assert card.count("\n---\n") == 1


@pytest.mark.parametrize(
    ("statement", "commands"),
    [
        ("UPDATE runs SET result_json = '{}'", ["export", "report", "show"]),
        ("UPDATE runs SET result_json = json_set(result_json, '$.best', 7)", ["export", "report", "show", "compare"]),
        ("UPDATE runs SET result_json = json_set(result_json, '$.dense.metrics', '{}')", ["export", "report", "show"]),
        ("UPDATE runs SET result_json = json_set(result_json, '$.best.architecture', '0+1*999999999')", ["export"]),
        ("UPDATE runs SET result_json = json_remove(result_json, '$.best.metrics')", ["export", "report"]),
        ("UPDATE runs SET result_json = replace(result_json, '.ppl', '.other')", ["export", "report"]),
        ("UPDATE runs SET result_json = json_set(result_json, '$.model.fingerprint', 'none')", ["report"]),
        ("UPDATE runs SET spec_json = '[]'", ["export", "report"]),
        ("UPDATE models SET shape_json = '{}'", ["report", "query"]),
        ("UPDATE architectures SET layer_ids_json = '[99]'", ["query", "merge"]),
        ("UPDATE architectures SET layer_ids_json = 'none'", ["query", "merge"]),
        ("UPDATE layers SET mlp_width = -3 WHERE id = 1", ["query", "merge"]),
    ],
)
def test_content_of_another_form_is_one_line(continued: Workplace, statement: str, commands: list[str]) -> None:
    change(continued, statement)
    arguments = {
        "export": ["export", "1", "again"],
        "report": ["report", "1"],
        "show": ["runs", "show", "1"],
        "compare": ["runs", "compare", "1", "1"],
        "query": ["registry", "query"],
        "merge": ["registry", "merge", "registry.db", "--registry", "ours.db"],
    }
    for command in commands:
        outcome = continued.prunecast(*arguments[command])
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1), (command, outcome)
    assert not (continued.folder / "again").exists()
    assert not (continued.folder / "report").exists()


def refused(outcome: Outcome, *parts: str) -> None:
    assert (outcome.code, outcome.stdout) == (1, ""), outcome
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert all(part in line for part in parts), line


def test_a_recorded_run_with_trust_and_a_foreign_source_executes_nothing_until_it_is_named(
    continued: Workplace,
) -> None:
    foreign = continued.folder / "foreign"
    shutil.copytree(continued.folder / "model", foreign)
    (foreign / "own.py").write_text(CODE)
    config = json.loads((foreign / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}}
    (foreign / "config.json").write_text(json.dumps(config))
    (spec,) = (json.loads(text) for (text,) in continued.sql("SELECT spec_json FROM runs"))
    spec["model"] |= {"source": "foreign", "trust_remote_code": True}
    change(continued, "UPDATE runs SET spec_json = :spec", spec=json.dumps(spec))

    refused(continued.prunecast("export", "1", "again"), "run 1 (tiny)", "--trust-remote-code")
    refused(continued.prunecast("registry", "verify", "--remeasure", "1"), "run 1 (tiny)", "--trust-remote-code")
    refused(continued.prunecast("report", "1"), "run 1 (tiny)", "changed since: the model")
    assert continued.prunecast("report", "1", "--as-recorded").code == 0
    assert continued.prunecast("predict", "tiny.yaml").code == 0
    assert not list(continued.folder.rglob("ran"))

    spec["plugins"] = ["mine.py"]
    spec["pruner"] = {"use": "mine"}
    (continued.folder / "mine.py").write_text('open("ran", "w")\n')
    change(continued, "UPDATE runs SET spec_json = :spec", spec=json.dumps(spec))
    refused(continued.prunecast("export", "1", "again", "--trust-remote-code"), "'mine'", "--plugin-dir PATH")
    assert not list(continued.folder.rglob("ran"))


def test_foreign_sql_is_refused_by_every_command(continued: Workplace) -> None:
    shutil.copy(continued.registry, continued.folder / "ours.db")
    before = (continued.folder / "ours.db").read_bytes()
    change(
        continued,
        "CREATE TRIGGER sneaky AFTER UPDATE ON runs BEGIN DELETE FROM evaluations; END",
    )
    for arguments in (
        ["registry", "query"],
        ["registry", "sql", "SELECT 1"],
        ["registry", "stats"],
        ["registry", "export", "all.jsonl"],
        ["registry", "publish", "./shared"],
        ["registry", "merge", "registry.db", "--registry", "ours.db"],
        ["registry", "gc"],
        ["registry", "verify"],
        ["runs", "list"],
        ["report", "1"],
        ["export", "1", "again"],
        ["predict", DENSE],
        ["run", "tiny.yaml"],
    ):
        refused(continued.prunecast(*arguments), "registry.db: has trigger sneaky", 'DROP TRIGGER "sneaky";')
    assert {path.name for path in continued.folder.iterdir()} & {"all.jsonl", "shared", "report", "again"} == set()
    with Registry.open(continued.folder / "ours.db", readonly=True) as ours:
        assert len(ours.runs()) == 1
    assert (continued.folder / "ours.db").read_bytes() == before


def test_commands_print_through_one_module_only() -> None:
    root = Path(prunecast.cli.__file__).parent
    found = [
        f"{file.name}:{node.lineno}"
        for file in root.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("click.echo", "click.secho", "print", "sys.stdout.write")
    ]
    places = {place.split(":")[0] for place in found}
    assert places == {"output.py", "main.py"}


def test_an_error_of_a_hostile_name_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["runs", "show", "x\n\x1b[2J", "--registry", str(tmp_path / "no.db")])
    assert hidden(result.stderr) == ""
