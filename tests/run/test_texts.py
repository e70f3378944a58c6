"""A run on one's own texts: which text is used for what, under which name, and where its file is looked for."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from workplace import SPEC, Workplace

from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.spec.load import load_spec
from prunecast.spec.model import Spec

OWN = {"dataset": "own.jsonl", "samples": 2, "tokens": 32}
SHORT = {"collect": {"pairs": 4}, "rounds": 1, "per_round": 1, "verify": {"top": 1}, "baselines": [], "export": None}


def evaluator(dataset: str, split: str, **options: Any) -> dict[str, Any]:
    return {"use": "perplexity", "dataset": dataset, "split": split, "tokens": 192, "context": 64, **options}


def ranked_and_compensated(calibration: Any, compensate: Any = "least-squares", use: str = "taylor") -> dict[str, Any]:
    return {"use": use, "calibration": calibration, "compensate": compensate}


@pytest.fixture
def offline(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A workplace with one file of 120 documents, and no data set but one's own."""
    monkeypatch.delenv("PRUNECAST_DATA", raising=False)
    texts = [(workplace.folder / name).read_text() for name in ("calibration.txt", "validation.txt", "test.txt")]
    text = "".join(texts)
    size = len(text) // 120
    documents = [text[start * size : (start + 1) * size] for start in range(120)]
    lines = [json.dumps({"text": document}) for document in documents]
    (workplace.folder / "own.jsonl").write_text("\n".join(lines))
    return workplace


def loaded(workplace: Workplace, changes: dict[str, Any], *overrides: str) -> Spec:
    workplace.write_spec("own", changes)
    return load_spec(workplace.folder / "own.yaml", PluginHost.discover(), overrides)


# ------------------------------------------------------------------------------------------------- which text is used


def test_a_run_on_one_file_takes_no_other_text_and_names_it_everywhere(offline: Workplace) -> None:
    changes = {
        "pruner": ranked_and_compensated(OWN | {"split": "train"}),
        "evaluators": [evaluator("own.jsonl", "validation")],
        "verify": {"top": 1, "evaluators": [evaluator("own.jsonl", "test")]},
        "recover": {"method": "distill", "dataset": "own.jsonl", "split": "train", "samples": 4, "tokens": 32},
        "export": {"path": "out"},
    }
    offline.write_spec("own", {**SHORT, **changes})
    outcome = offline.prunecast("run", "own.yaml", "--json")
    assert outcome.code == 0, outcome.stderr
    texts = {
        "ranked_on": ["own.jsonl (train), 2 x 32 tokens"],
        "compensated_on": ["own.jsonl (train), 2 x 32 tokens"],
        "recovered_on": ["own.jsonl (train), 4 x 32 tokens"],
        "searched_by": ["own.validation.ppl"],
        "held_out": ["own.test.ppl"],
    }
    assert outcome.json["texts"] == texts
    assert set(outcome.json["best"]["metrics"]) == {"own.validation.ppl", "own.test.ppl"}
    card = (offline.folder / "out" / "README.md").read_text()
    for line in (
        "- compensated on: own.jsonl (train), 2 x 32 tokens",
        "- recovered on: own.jsonl (train), 4 x 32 tokens",
        "- held out: own.test.ppl",
    ):
        assert line in card
    assert "books" not in card
    assert offline.prunecast("run", "own.yaml", "--dry-run", "--json").json["texts"] == texts
    for arguments in (("run", "own.yaml", "--dry-run"), ("run", "own.yaml")):
        again = offline.prunecast(*arguments)
        assert "compensated on  own.jsonl (train), 2 x 32 tokens" in (again.stdout + again.stderr).splitlines()


@pytest.mark.parametrize("use", ["taylor", "obs", "flap"])
def test_compensation_takes_the_text_of_the_ranking_unless_told_otherwise(offline: Workplace, use: str) -> None:
    other = {"dataset": "other.txt", "samples": 3, "tokens": 16}
    two = [OWN, OWN | {"seed": 1}]
    for compensate, expected in (
        ("bias", two),
        ({"method": "least-squares", "damping": 0.1}, two),
        ({"method": "bias", "calibration": other}, [other]),
        ({"method": "bias", "calibration": {"samples": 5}}, [each | {"samples": 5} for each in two]),
        ({"method": "bias", "calibration": [other, {"tokens": 64}]}, [other, *(each | {"tokens": 64} for each in two)]),
    ):
        spec = loaded(offline, {"pruner": ranked_and_compensated(two, compensate, use)})
        written = [text.model_dump(exclude_defaults=True) for text in spec.pruner.options.compensate.calibration]
        assert written == expected
        recorded = json.loads(spec.to_json())["pruner"]["compensate"]["calibration"]
        assert [text["dataset"] for text in recorded] == [text["dataset"] for text in expected]


def test_without_compensation_or_a_text_of_ones_own_nothing_changes(offline: Workplace) -> None:
    default = [{"samples": 32, "tokens": 512}]
    for pruner in (
        ranked_and_compensated(OWN, "none"),
        {"use": "obs", "compensate": "bias"},
        {"use": "magnitude", "compensate": "bias"},
    ):
        spec = loaded(offline, {"pruner": pruner})
        assert [t.model_dump(exclude_defaults=True) for t in spec.pruner.options.compensate.calibration] == default
        assert "calibration" not in spec.pruner.options.material_options().get("compensate", {})


@pytest.mark.parametrize("use", ["taylor", "obs", "activation"])
def test_a_calibration_is_a_mapping_or_a_list_with_the_same_keys(offline: Workplace, use: str) -> None:
    one = loaded(offline, {"pruner": ranked_and_compensated(OWN, {"method": "bias", "calibration": OWN}, use)})
    several = loaded(offline, {"pruner": ranked_and_compensated([OWN], {"method": "bias", "calibration": [OWN]}, use)})
    assert one.key == several.key
    assert one.pruner.options.material_options() == several.pruner.options.material_options()
    two = loaded(offline, {"pruner": ranked_and_compensated([OWN, OWN | {"seed": 1}], use=use)})
    assert two.key != one.key
    assert len(two.pruner.options.calibration) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pruner.calibration={samples: 0}", "pruner.calibration.samples: must be at least 1, got 0"),
        ("pruner.calibration=[{}, {sample: 1}]", "pruner.calibration.1.sample: unknown option 'sample' (did you mean"),
        (
            "pruner.calibration={sample: 1}",
            "pruner.calibration.sample: unknown option 'sample' (did you mean 'samples'",
        ),
        ("pruner.calibration=[]", "pruner.calibration: needs at least 1 item(s), has 0"),
        ("pruner.calibration=[{}, {tokens: 9}]", "all calibration texts need the same number of tokens per sample"),
        ("pruner.calibration=own.jsonl", "pruner.calibration: must be a mapping, got 'own.jsonl'"),
        ("splits={train: 0.5, test: 0.2}", "splits: train, validation and test add up to 0.75: make it 1"),
        ("splits={dev: 0.5}", "splits.dev: unknown option 'dev'"),
    ],
)
def test_a_wrong_calibration_or_split_is_one_problem(offline: Workplace, override: str, message: str) -> None:
    outcome = offline.prunecast("spec", "validate", "tiny.yaml", "--set", override)
    assert outcome.code == 1
    assert message in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


# ------------------------------------------------------------------------------------------- what is called a test


@pytest.mark.parametrize(
    ("searched", "verified"),
    [
        (("own.jsonl", "all"), ("own.jsonl", "test")),
        (("own.jsonl", "test"), ("copy.jsonl", "all")),
        (("validation.txt", "validation"), ("again-test.txt", "test")),
    ],
)
def test_text_that_is_searched_by_is_not_verified_on_as_another_split(
    offline: Workplace, searched: tuple[str, str], verified: tuple[str, str]
) -> None:
    shutil.copy(offline.folder / "own.jsonl", offline.folder / "copy.jsonl")
    shutil.copy(offline.folder / "validation.txt", offline.folder / "again-test.txt")
    verify = {"top": 1, "evaluators": [evaluator(*verified)]}
    offline.write_spec("own", {**SHORT, "evaluators": [evaluator(*searched)], "verify": verify})
    for arguments in (("run", "own.yaml"), ("run", "own.yaml", "--dry-run")):
        outcome = offline.prunecast(*arguments)
        assert outcome.code == 1
        assert (
            "verify: data set {}, split {}: part of what the search measures, {}, split {}".format(*verified, *searched)
            in outcome.stderr
        )
    assert offline.sql("SELECT count(*) FROM evaluations") == [(0,)]


def test_a_test_that_is_searched_by_is_told_to_be_none(offline: Workplace) -> None:
    verify = {"top": 1, "evaluators": [{**evaluator("own.jsonl", "test"), "use": "kl"}]}
    offline.write_spec("own", {**SHORT, "evaluators": [evaluator("own.jsonl", "test")], "verify": verify})
    planned = offline.prunecast("run", "own.yaml", "--dry-run", "--json").json
    assert planned["texts"]["searched_by"] == ["own.test.ppl", "own.test.kl"]
    assert "held_out" not in planned["texts"]
    assert [note.split(" is of text")[0] for note in planned["notes"]] == ["own.test.ppl", "own.test.kl"]


def test_shares_of_the_parts_are_those_of_the_spec(offline: Workplace) -> None:
    changes = {**SHORT, "evaluators": [evaluator("own.jsonl", "test", tokens=1024)]}
    offline.write_spec("own", changes)
    few = offline.prunecast("run", "own.yaml", "--dry-run")
    assert few.code == 1
    assert "perplexity on own.jsonl, split test (5 % of the file; split: all is all of it): text has " in few.stderr
    splits = {"splits": {"train": 0.5, "validation": 0.25, "test": 0.25}}
    offline.write_spec("own", {**changes, **splits})
    assert offline.prunecast("run", "own.yaml", "--dry-run").code == 0


# ------------------------------------------------------------------------------------------ where files are looked for


@pytest.fixture
def apart(offline: Workplace) -> Workplace:
    """The spec and everything it names in the folder ``inner``; the current folder has only that."""
    inner = offline.folder / "inner"
    inner.mkdir()
    changes = {"evaluators": [evaluator("own.jsonl", "validation")], "verify": {"top": 1}, "export": {"path": "out"}}
    offline.write_spec("own", {**SHORT, **changes})
    for file in [each for each in offline.folder.iterdir() if each != inner]:
        file.rename(inner / file.name)
    return offline


@pytest.mark.slow
def test_paths_of_a_spec_start_from_its_folder(apart: Workplace) -> None:
    outcome = apart.prunecast("run", "inner/own.yaml")
    assert outcome.code == 0, outcome.stderr
    assert "note:" not in outcome.stderr
    assert (apart.folder / "inner" / "out" / "config.json").is_file()
    assert not (apart.folder / "out").exists()
    # The registry knows the folder, so that the run can be exported from anywhere.
    elsewhere = apart.folder / "elsewhere"
    elsewhere.mkdir()
    moved = Workplace(elsewhere).prunecast("export", "1", "again", "--registry", str(apart.registry))
    assert moved.code == 0, moved.stderr


def test_paths_on_the_command_line_start_from_the_current_folder(
    apart: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (apart.folder / "own.jsonl").write_text((apart.folder / "inner" / "own.jsonl").read_text().replace("a", "b"))
    monkeypatch.chdir(apart.folder)
    host = PluginHost.discover()

    def data(*overrides: str) -> str:
        setup = Setup(load_spec("inner/own.yaml", host, overrides), host)
        return str(setup.evaluators[0].evaluator.data_hash)

    beside = data()
    assert data("evaluators.0.dataset=own.jsonl#text") != beside
    assert data("evaluators.0.dataset=inner/own.jsonl") == beside
    spec = load_spec("inner/own.yaml", host, ["export.path=out"])
    assert spec.export_path == Path("out")
    assert spec.paths.find("model") == Path("inner/model")


def test_files_where_earlier_versions_looked_are_found_with_a_note(apart: Workplace) -> None:
    (apart.folder / "inner" / "own.jsonl").rename(apart.folder / "own.jsonl")
    (apart.folder / "inner" / "model").rename(apart.folder / "model")
    planned = apart.prunecast("run", "inner/own.yaml", "--dry-run")
    assert planned.code == 0, planned.stderr
    notes = [line for line in planned.stderr.splitlines() if line.startswith("note:")]
    assert notes == [
        f"note: {name} is not at {apart.folder}/inner/{name}, but at {apart.folder}/{name}, where earlier versions "
        "looked"
        for name in ("model", "own.jsonl")
    ]


def test_a_missing_file_is_named_by_its_place_beside_the_spec(apart: Workplace) -> None:
    (apart.folder / "inner" / "own.jsonl").unlink()
    outcome = apart.prunecast("run", "inner/own.yaml")
    assert outcome.code == 1
    assert f"data set own.jsonl: no file {apart.folder}/inner/own.jsonl" in outcome.stderr


def test_a_packaged_spec_writes_to_the_current_folder() -> None:
    spec = load_spec("quickstart", PluginHost.discover())
    assert spec.export_path == Path("out/{name}")
    by_path = load_spec(spec.source.path or "", PluginHost.discover())
    assert by_path.export_path == Path("out/{name}")
    paper = load_spec("paper", PluginHost.discover())
    assert paper.config_path is not None
    assert paper.config_path.is_file()


def test_the_folder_of_a_spec_can_be_named_and_is_not_in_its_key(offline: Workplace) -> None:
    here = loaded(offline, {})
    there = loaded(offline, {"folder": "texts"})
    assert here.key == there.key
    assert there.paths.find("own.jsonl") == offline.folder / "texts" / "own.jsonl"
    assert there.paths.find("~/own.jsonl").is_absolute()
    assert SPEC["export"] == {"path": "out/tiny"}
    assert there.export_path == offline.folder / "texts" / "out" / "tiny"
