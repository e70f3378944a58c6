"""Reports of a tiny run and of the registry shipped with the repository, parsed as HTML."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import REPOSITORY
from workplace import Outcome, Workplace

from prunecast.registry import Registry
from prunecast.report.facts import Facts

Finished = tuple[Workplace, Outcome]
LOADING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}
WITHIN = ("#", "data:image/png;base64,")
VOID = {"meta", "wbr", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Parsed page: sections by anchor, their tables by caption, and all references to resources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.titles: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.alts: list[str] = []
        self.text: dict[str, str] = {}
        self._section = ""
        self._cells: list[list[str]] = []
        self._caption = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)
        self.loads += [value for name, value in values.items() if name in LOADING]
        self.loads += re.findall(r"url\(([^)]*)\)", values.get("style", "") + values.get("clip-path", ""))
        self.ids += [values["id"]] if "id" in values else []
        if tag == "section":
            self._section = values["id"]
        elif tag == "table":
            self._cells, self._caption = [], ""
        elif tag == "tr":
            self._cells.append([])
        elif tag in ("th", "td"):
            self._cells[-1].append("")
        elif tag == "svg":
            self.alts.append(values.get("aria-label", ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._cells

    def handle_data(self, data: str) -> None:
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        where = set(self.open[-3:])
        if "caption" in where:
            self._caption += data
        elif where & {"th", "td"}:
            self._cells[-1][-1] += data
        elif "h2" in where:
            self.titles.append(data)
        elif "style" in where:
            self.loads += re.findall(r"url\(([^)]*)\)|@import ([^;]*)", data)
        self.text[self._section] = self.text.get(self._section, "") + data


def report(workplace: Workplace, run: str = "tiny", *arguments: str) -> tuple[Page, list[Path]]:
    outcome = workplace.prunecast("report", run, "--out", "report", "--json", *arguments)
    assert outcome.code == 0, outcome.stderr
    files = [workplace.folder / name for name in outcome.json]
    return Page(files[0].read_text(encoding="utf-8")), files


def pixels(path: Path) -> Any:
    from matplotlib.image import imread

    return imread(path)[..., :3]


def change_result(workplace: Workplace, **parts: Any) -> None:
    """Replace parts of the result of run 1, to imitate longer runs."""
    with closing(sqlite3.connect(workplace.registry)) as connection, connection:
        [(text,)] = connection.execute("SELECT result_json FROM runs WHERE id = 1").fetchall()
        result = json.dumps({**json.loads(text), **parts})
        connection.execute("UPDATE runs SET result_json = ? WHERE id = 1", (result,))


RECOVERY = {
    "method": "lora",
    "options": {"method": "lora", "dataset": "alpaca", "batch": 64, "seed": 0, "targets": ["query", "key"]},
    "dtype": "float32",
    "examples": 9000,
    "steps": 3,
    "losses": [2.5, 2.25, 2.0],
    "seconds": 12.0,
}


# ------------------------------------------------------------------------------------------------------ valid HTML


@pytest.fixture(scope="module")
def page_and_files(finished: Finished) -> tuple[Page, list[Path]]:
    return report(finished[0])


def test_page_parses_and_loads_nothing_from_outside(page_and_files: tuple[Page, list[Path]]) -> None:
    page, files = page_and_files
    assert page.open == []
    assert page.loads
    assert [place for place in page.loads if not str(place).startswith(WITHIN)] == []
    assert "<script" not in files[0].read_text(encoding="utf-8")


def test_every_id_is_unique_and_every_reference_has_its_target(page_and_files: tuple[Page, list[Path]]) -> None:
    page, _ = page_and_files
    assert len(page.ids) == len(set(page.ids))
    assert {place.removeprefix("#") for place in page.loads if place.startswith("#")} <= set(page.ids)


def test_sections_are_in_order(page_and_files: tuple[Page, list[Path]]) -> None:
    assert page_and_files[0].titles == [
        *("Result", "Ratios", "Speed", "Layers", "Recovery", "Exports", "Predictor", "Importance", "Learning curve"),
        *("Protocol", "Evaluations", "Failures", "Spec"),
    ]


def test_every_picture_has_alt_text_in_both_widths(page_and_files: tuple[Page, list[Path]]) -> None:
    page, files = page_and_files
    pictures = [file.stem for file in files[1:]]
    assert pictures == ["ratios", "layers", "predicted", "importance"]
    assert len(page.alts) == 2 * len(pictures)
    assert all(len(alt) > 40 for alt in page.alts)


def test_pictures_are_not_blank(page_and_files: tuple[Page, list[Path]]) -> None:
    for file in page_and_files[1][1:]:
        shown = pixels(file)
        assert min(shown.shape[:2]) > 200
        assert shown.std() > 0.02, file.name
        assert (shown.min(axis=2) < 0.999).mean() > 0.01, file.name


def test_colours_of_the_pictures_follow_the_page_theme(page_and_files: tuple[Page, list[Path]]) -> None:
    """No picture hard-codes the light theme's ink, text or line colours."""
    drawings = re.findall(r"<svg.*?</svg>", page_and_files[1][0].read_text(encoding="utf-8"), re.DOTALL)
    assert drawings
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert "#1b1f27" not in drawing
        assert "#000000" not in drawing


def test_the_same_run_gives_the_same_page(finished: Finished, page_and_files: tuple[Page, list[Path]]) -> None:
    first = [file.read_bytes() for file in page_and_files[1]]
    assert [file.read_bytes() for file in report(finished[0])[1]] == first


# -------------------------------------------------------------------------------------------------------- content


def test_results_table_has_the_numbers_of_the_run(finished: Finished, page_and_files: tuple[Page, list[Path]]) -> None:
    result, page = finished[1].json, page_and_files[0]
    table = page.tables["Measured metrics in float32; parameter counts include embeddings"]
    assert table[0] == ["", "parameters", "kept", *result["dense"]["metrics"]]
    dense, uniform, uniform_mlp, best, *against = table[1:]
    for row, candidate in zip(
        (dense, uniform, uniform_mlp, best), (result["dense"], *result["baselines"], result["best"]), strict=True
    ):
        values = [f"{value:.2f}" for value in candidate["metrics"].values()]
        assert row == [
            candidate["name"],
            f"{candidate['parameters']:,}",
            f"{100 * candidate['parameters'] / result['dense']['parameters']:.1f} %",
            *values,
        ]
    # The tiny space is coarse: a baseline may differ too much in size to be compared.
    size = result["best"]["parameters"]
    matched = [row for row in result["baselines"] if abs(row["parameters"] / size - 1) <= 0.002]
    assert len(against) == bool(matched)
    for cell, (name, value) in zip(against[0][3:] if against else (), result["best"]["metrics"].items(), strict=False):
        best_baseline = min(baseline["metrics"][name] for baseline in matched)
        change = 100 * (value / best_baseline - 1)
        assert cell == f"{abs(change):.1f} % {'worse' if change > 0 else 'better'}"
        if name == "test.test.ppl":
            assert f"is {cell} on test.test.ppl" in page.text["result"]


def test_tables_of_the_pictures_have_every_point(finished: Finished, page_and_files: tuple[Page, list[Path]]) -> None:
    result, page = finished[1].json, page_and_files[0]
    [metric] = result["best"]["predicted"]
    held_out = result["quality_card"]["first_split"][metric]
    points = page.tables[f"Predicted and measured {metric}"][1:]
    assert [row for row in points if row[0] == "held out"] == [
        ["held out", f"{np.exp(predicted):.2f}", f"{np.exp(measured):.2f}"]
        for predicted, measured in zip(held_out["predicted"], held_out["measured"], strict=True)
    ]
    chosen = [each for one in result["rounds"] for each in one["chosen"]]
    assert [row for row in points if row[0] != "held out"] == [
        ["chosen by search", f"{each['predicted'][metric]:.2f}", f"{each['measured'][metric]:.2f}"] for each in chosen
    ]
    assert len(page.tables["All measured pairs"]) == 1 + result["predictor"]["pairs"]
    shares = page.tables["Importance of each choice, as a share of the total"][1:]
    assert shares == [[each["choice"], f"{100 * each['shares'][metric]:.1f} %"] for each in result["importances"]]
    ratios = page.tables["Best architectures found and baselines, by parameters removed"][1:]
    assert [row[0] for row in ratios] == ["found", "uniform", "uniform-mlp"]


def test_layers_are_listed_as_shares_of_the_dense_layers(
    finished: Finished, page_and_files: tuple[Page, list[Path]]
) -> None:
    heads = page_and_files[0].tables["Share of query heads that each layer keeps"]
    channels = page_and_files[0].tables["Share of MLP channels that each layer keeps"]
    found = []
    for run in finished[1].json["best"]["architecture"].split():
        sizes, _, repeat = run.partition("*")
        attention, width = sizes.split("+")
        groups, _, per_group = attention.partition("x")
        kept = (int(groups) * int(per_group or 0) / 8, int(width) / 24)
        found += [[f"{100 * share:.1f} %" for share in kept]] * int(repeat or 1)
    assert [[h[1], c[1]] for h, c in zip(heads[1:], channels[1:], strict=True)] == found


def test_protocol_lists_model_data_versions_and_spec(
    finished: Finished, page_and_files: tuple[Page, list[Path]]
) -> None:
    workplace, outcome = finished
    page = page_and_files[0]
    conditions = dict(page.tables["Conditions"])
    assert conditions["fingerprint"] == outcome.json["model"]["fingerprint"]
    assert conditions["number format"] == "float32"
    assert conditions["parameters"].startswith("74,432, embeddings included; ")
    assert conditions["budget"] == "parameters ≤ 59,545 (80.0 %)"
    data = page.tables["Data, splits, tokens and context"]
    hashes = {row[2] for row in data if row[0] == "data of perplexity"}
    assert hashes == {key for (key,) in workplace.sql("SELECT data_hash FROM evaluators")}
    assert {"context 64", "split test", "tokens 256"} <= set(data[2][1].split(", "))
    versions = page.tables["Versions and devices of the measurements"]
    assert versions[1][1] == ".".join(map(str, sys.version_info[:3]))
    assert (workplace.folder / "tiny.yaml").read_text().rstrip() in page.text["spec"]


def test_evaluations_table_counts_measured_and_reused_evaluations(
    finished: Finished, page_and_files: tuple[Page, list[Path]]
) -> None:
    caption = "Evaluations of each stage; seconds include those of evaluations found in the registry"
    rows = page_and_files[0].tables[caption][1:]
    counted = {row[0]: tuple(map(int, row[1:4])) for row in rows}
    expected = finished[0].sql(
        "SELECT stage, count(*), sum(1 - cached), sum(cached) FROM run_evaluations WHERE run_id = 1 GROUP BY stage"
    )
    assert counted == {stage: tuple(counts) for stage, *counts in expected}


def test_missing_parts_of_a_run_are_one_sentence(page_and_files: tuple[Page, list[Path]]) -> None:
    page, _ = page_and_files
    assert page.text["recovery"].split("\n")[2:4] == ["The run did not train the pruned model.", ""]
    assert "This run has too few pairs for a learning curve." in page.text["learning-curve"]
    assert "No evaluation failed." in page.text["failures"]


# ------------------------------------------------------------------------------------------ parts of other runs


def test_recovery_has_tables_and_a_picture(finished: Finished, continued: Workplace) -> None:
    best = finished[1].json["best"]
    after = {**best, "name": "recovered", "metrics": {name: value / 2 for name, value in best["metrics"].items()}}
    change_result(continued, recovery={**RECOVERY, "after": after})
    page, files = report(continued)
    rows = page.tables["Before and after recovery"]
    assert [row[0] for row in rows] == ["", "dense", "pruned", "recovered", "recovered compared with pruned"]
    assert rows[3][1:] == [f"{value / 2:.2f}" for value in best["metrics"].values()]
    assert rows[4][1:] == ["50.0 % better"] * len(best["metrics"])
    assert page.tables["Training loss of each step, nats per position"][1:] == [
        ["1", "2.5000"],
        ["2", "2.2500"],
        ["3", "2.0000"],
    ]
    assert ["targets", "query, key"] in page.tables["Training options"]
    assert page.tables["Measured metrics in float32; parameter counts include embeddings"][5][0] == "recovered by lora"
    assert pixels(next(file for file in files if file.stem == "recovery")).std() > 0.02


def test_recovery_without_recorded_losses_has_no_loss_table(finished: Finished, continued: Workplace) -> None:
    change_result(continued, recovery={**RECOVERY, "losses": None, "seconds": None, "after": finished[1].json["best"]})
    page, files = report(continued)
    assert "Training loss of each step, nats per position" not in page.tables
    assert "recovery" in {file.stem for file in files}


def test_learning_curve_has_a_table_and_a_picture(finished: Finished, continued: Workplace) -> None:
    card = finished[1].json["quality_card"]
    curve = [{"pairs": pairs, "r2": 0.5 + pairs / 1000, "kendall_tau": 0.25} for pairs in (25, 50, 100)]
    change_result(continued, quality_card={**card, "learning_curve": curve})
    page, files = report(continued)
    assert page.tables["Quality on the same held-out pairs by number of pairs fitted on"][1:] == [
        ["25", "0.525", "0.250"],
        ["50", "0.550", "0.250"],
        ["100", "0.600", "0.250"],
    ]
    assert "learning" in {file.stem for file in files}


def test_refinements_are_listed_with_their_reasons(continued: Workplace) -> None:
    change = {"choice": "attention of layer 1", "importance": 0.5, "rank": 1, "action": "narrowed"}
    change |= {"before": [[0, 0], [4, 2]], "after": [[4, 2]], "reason": "among the 30% most important"}
    change_result(continued, refinement=[change])
    page, _ = report(continued)
    assert page.tables["Refinement of the space, most important choice first"][1] == [
        *("1", "attention of layer 1", "narrowed", "0x0 4x2", "4x2", "among the 30% most important")
    ]


def test_a_run_without_quality_card_is_reported_without_it(continued: Workplace) -> None:
    change_result(continued, quality_card=None, importances=[])
    page, files = report(continued)
    assert {file.stem for file in files} == {"index", "ratios", "layers"}
    assert "has no quality card" in page.text["predictor"]
    assert "has no importances" in page.text["importance"]


@pytest.mark.slow
def test_runs_of_the_same_protocol_at_other_budgets_share_a_picture(continued: Workplace) -> None:
    overrides = ("--set", "budget.parameters=0.9", "--set", "rounds=1", "--set", "export=null")
    assert continued.prunecast("run", "tiny.yaml", "--quiet", *overrides).code == 0
    assert continued.prunecast("run", "tiny.yaml", "--quiet", *overrides, "--set", "pruner=magnitude").code == 0
    page, _ = report(continued, "1")
    removed = [
        row[1]
        for row in page.tables["Best architectures found and baselines, by parameters removed"][1:]
        if row[0] == "found"
    ]
    assert len(removed) == 2
    assert [10 <= float(share.removesuffix(" %")) < 16 for share in removed] == [True, False]
    assert "2 runs of the model under the same protocol" in page.text["ratios"]


@pytest.mark.slow
def test_spread_proposals_are_drawn_with_uniform_baselines_of_their_sizes(continued: Workplace) -> None:
    overrides = ("choose.rule=spread", "rounds=1", "per_round=4", "export=null")
    run = continued.prunecast("run", "tiny.yaml", "--json", *(part for each in overrides for part in ("--set", each)))
    assert run.code == 0
    page, _ = report(continued, str(run.json["run"]))
    removed: dict[str, list[float]] = {"found": [], "uniform": []}
    for name, share, *_ in page.tables["Best architectures found and baselines, by parameters removed"][1:]:
        removed.setdefault(name, []).append(float(share.removesuffix(" %")))
    assert len(removed["found"]) > 3
    for size in removed["found"]:
        assert min(abs(size - even) for even in removed["uniform"]) < 1.5


def test_exports_are_listed_with_what_was_compared(continued: Workplace) -> None:
    parity = {"engine": "llama.cpp 7", "compared": "log-probabilities of 9", "max_difference": 0.013, "greedy": 32}
    parity |= {"greedy_equal": 31, "perplexity": 20.5, "reference_perplexity": 20.25, "notes": ["odd"]}
    written = {"target": "gguf-q8_0", "folder": "/x", "architecture": "1x1+1", "parameters": 9, "bytes": 2_500_000}
    with Registry.open(continued.registry) as registry:
        registry.keep_exports(1, [{**written, "notes": ["padded"], "unchanged": False, "parity": parity}])
        registry.keep_exports(1, [{**written, "folder": "/y", "notes": [], "unchanged": False, "parity": None}])
    page, _ = report(continued, "1")
    for shown in ("gguf-q8_0: padded", "gguf-q8_0: odd"):
        assert shown in page.text["exports"]
    rows = page.tables["Files compared with the measured model"]
    assert rows[-2:] == [
        ["gguf-q8_0", "llama.cpp 7", "1.3e-02", "31 of 32", "20.50", "20.25", "2.5"],
        ["gguf-q8_0", "not installed", "", "", "", "", "2.5"],
    ]
    listed = continued.prunecast("runs", "show", "1", "--registry", continued.registry).stdout
    assert "llama.cpp 7" in listed
    assert "31/32" in listed


def test_failures_are_listed_with_their_reasons(continued: Workplace) -> None:
    with closing(sqlite3.connect(continued.registry)) as connection, connection:
        connection.execute(
            "INSERT INTO failures (architecture_id, setting_id, run_id, reason, attempts, last_utc) "
            "VALUES (1, 1, 1, 'loss is <nan> & more', 2, '2025-01-31T12:00:00Z')"
        )
    page, _ = report(continued)
    assert page.tables["Failed evaluations"][1] == ["perplexity", "loss is <nan> & more", "2", "2025-01-31T12:00:00Z"]


def test_names_and_specs_are_escaped(continued: Workplace) -> None:
    with closing(sqlite3.connect(continued.registry)) as connection, connection:
        connection.execute("UPDATE runs SET spec_text = '</code><script>alert(1)</script>', name = '<b>&amp;'")
    page, files = report(continued, "1")
    assert "<script" not in files[0].read_text(encoding="utf-8")
    assert "</code><script>alert(1)</script>" in page.text["spec"]


# ----------------------------------------------------------------------------------------- registry alone, errors


def test_the_shipped_registry_is_reported_without_torch_or_plugins(tmp_path: Path) -> None:
    code = """if True:
        import sys
        class Missing:
            def find_spec(self, name, *rest):
                if name.partition(".")[0] in ("torch", "transformers", "prunecast_plugins", "xgboost", "optuna"):
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Missing())
        from prunecast.cli.main import cli
        sys.exit(cli.main(sys.argv[1:], standalone_mode=False))
    """
    with closing(sqlite3.connect(f"file:{REPOSITORY / 'registry.db'}?mode=ro", uri=True)) as connection:
        query = (
            "SELECT id FROM runs WHERE status = 'finished' "
            "AND json_extract(spec_json, '$.model.source') = 'smollm2-135m' ORDER BY started_utc DESC LIMIT 1"
        )
        [(run,)] = connection.execute(query).fetchall()
    command = [sys.executable, "-c", code, "report", str(run), "--registry", str(REPOSITORY / "registry.db")]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0
    assert "not compared with what the run was made from, as not at hand: " in done.stderr
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert [place for place in page.loads if not str(place).startswith(WITHIN)] == []
    results = next(table for caption, table in page.tables.items() if caption.startswith("Measured metrics"))
    assert results[1][1:3] == ["134,515,008", "100.0 %"]
    for file in tmp_path.glob("*.png"):
        assert pixels(file).std() > 0.02


def test_every_finished_run_of_the_shipped_registry_has_points_to_draw(tmp_path: Path) -> None:
    copy = shutil.copy(REPOSITORY / "registry.db", tmp_path)
    with Registry.open(Path(copy)) as registry:
        finished = [Facts(registry, run) for run in registry.runs() if run.result is not None]
    drawn = {facts.record.id: len(facts.found) for facts in finished}
    assert set(drawn.values()) == {1, 18}  # 18 budgets of the paper's run; 1, the best, of every other run


def test_a_run_without_a_result_is_an_error(continued: Workplace) -> None:
    with closing(sqlite3.connect(continued.registry)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'interrupted', result_json = NULL")
    outcome = continued.prunecast("report", "tiny")
    assert outcome.code == 1
    assert outcome.stderr == (
        "error: registry.db: run 1 (tiny) is interrupted and has no result to report: "
        "finish it by running its spec again\n"
    )


def test_a_restarted_run_is_reported_with_its_earlier_result(continued: Workplace) -> None:
    with closing(sqlite3.connect(continued.registry)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'running', finished_utc = NULL")
    assert continued.prunecast("report", "tiny", "--out", "again").code == 0
    page = (continued.folder / "again" / "index.html").read_text()
    assert re.search(r"1, result of an earlier start; started again at \S+Z and now interrupted", page)


def test_a_folder_that_cannot_be_written_is_an_error(continued: Workplace) -> None:
    (continued.folder / "blocked").write_text("a file")
    outcome = continued.prunecast("report", "tiny", "--out", "blocked/report")
    assert outcome.code == 1
    blocked = continued.folder / "blocked"
    assert outcome.stderr == f"error: {blocked} is a file, no folder: choose another folder\n"


def test_a_report_replaces_no_other_report_and_no_page_of_others(continued: Workplace) -> None:
    folder = continued.folder / "shared"
    first = ("report", "tiny", "--out", "shared")
    assert continued.prunecast(*first).code == 0
    (folder / "notes.html").write_text("mine")
    page, stamp = folder / "index.html", (folder / "index.html").stat().st_mtime_ns
    assert continued.prunecast(*first).code == 0
    assert page.stat().st_mtime_ns == stamp
    with closing(sqlite3.connect(continued.registry)) as connection, connection:
        connection.execute(
            "INSERT INTO runs (key, name, status, started_utc, spec_json, spec_text, result_json, message) "
            "SELECT ?, 'other', status, started_utc, spec_json, spec_text, result_json, message FROM runs",
            ("f" * 32,),
        )
    refused = continued.prunecast("report", "other", "--out", "shared")
    assert (refused.code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert f"{folder} holds the report of run 'tiny', of another spec" in refused.stderr
    assert page.stat().st_mtime_ns == stamp
    assert continued.prunecast("report", "other", "--out", "shared", "--overwrite").code == 0
    assert page.stat().st_mtime_ns != stamp
    assert (folder / "notes.html").read_text() == "mine"
    (continued.folder / "site").mkdir()
    (continued.folder / "site" / "index.html").write_text("years of work")
    assert continued.prunecast("report", "tiny", "--out", "site", "--overwrite").code == 1
    assert (continued.folder / "site" / "index.html").read_text() == "years of work"


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_package_is_a_one_line_error(
    continued: Workplace, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = continued.prunecast("report", "tiny")
    assert outcome.code == 1
    assert outcome.stderr == f"error: a report needs {missing}: install it with pip install 'prunecast[report]'\n"
