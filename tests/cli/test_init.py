"""``prunecast init``: specs that validate, run in their time, and say what they are."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_folders import MODELS, save_model
from saved_models import edit_config
from workplace import Outcome, Workplace

from prunecast.errors import ModelError
from prunecast.models.source import resolve_source


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every model of ``model_folders``. Read-only."""
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        save_model(folder, name)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """An empty folder; the only text at hand is that of Python."""
    monkeypatch.delenv("PRUNECAST_DATA", raising=False)
    return Workplace(tmp_path)


def written(outcome: Outcome) -> dict[str, Any]:
    """The spec on stdout."""
    assert outcome.code == 0, outcome.stderr
    spec: dict[str, Any] = yaml.safe_load(outcome.stdout)
    return spec


def refused(workplace: Workplace, *arguments: str) -> str:
    """The one line of an ``init`` that fails with 1, prints no spec and writes nothing."""
    before = sorted(workplace.folder.rglob("*"))
    outcome = workplace.prunecast("init", *arguments)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert sorted(workplace.folder.rglob("*")) == before
    [line] = outcome.stderr.splitlines()
    return line


def assert_fits(workplace: Workplace, minutes: float) -> dict[str, Any]:
    """``spec.yaml`` is valid, and its dry run is within the time; returns the plan."""
    valid = workplace.prunecast("spec", "validate", "spec.yaml")
    assert (valid.code, valid.stderr) == (0, "")
    planned = workplace.prunecast("run", "spec.yaml", "--dry-run", "--json")
    assert planned.code == 0, planned.stderr
    plan: dict[str, Any] = planned.json
    assert 0 < plan["seconds"] <= 60 * minutes
    return plan


@pytest.mark.parametrize("name", MODELS)
def test_specs_of_all_kinds_of_models_are_valid_and_in_time(here: Workplace, models: Path, name: str) -> None:
    outcome = here.prunecast("init", str(models / name), "--output", "spec.yaml")
    assert outcome.code == 0, outcome.stderr
    plan = assert_fits(here, 30)
    spec = yaml.safe_load((here.folder / "spec.yaml").read_text())
    config = json.loads((models / name / "config.json").read_text())
    context = config.get("max_position_embeddings") or config["n_positions"]
    [window] = {use["context"] for use in [*spec["evaluators"], *spec["verify"]["evaluators"]]}
    assert {text["tokens"] for text in spec["pruner"]["calibration"]} == {window}
    assert window == 512 <= context or window + (name == "begins") <= context < 2 * window + (name == "begins")
    assert [step["stage"] for step in plan["steps"]][:3] == ["dense", "pairs", "round 1"]


@pytest.mark.slow
@pytest.mark.parametrize("alias", ["smollm2-135m", "gemma3-270m"])
def test_specs_of_real_models_are_valid_and_in_time(here: Workplace, alias: str) -> None:
    try:
        resolve_source(alias)
    except ModelError:
        pytest.skip(f"{alias} is not installed")
    assert here.prunecast("init", alias, "--output", "spec.yaml", "--minutes", "240").code == 0
    assert_fits(here, 240)


# ---------------------------------------------------------------------------------------------------- a written spec


def test_a_spec_of_a_tiny_model_runs_to_a_model_that_loads(here: Workplace, models: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert here.prunecast("init", str(models / "llama"), "--minutes", "0.6", "-o", "spec.yaml").code == 0
    ran = here.prunecast("run", "spec.yaml", "--json", "-q")
    assert ran.code == 0, ran.stderr
    best = ran.json["best"]
    pruned = AutoModelForCausalLM.from_pretrained(here.folder / "out" / "llama-80", trust_remote_code=True)
    assert pruned.num_parameters() == best["parameters"]
    assert best["parameters_without_embeddings"] <= 0.8 * ran.json["dense"]["parameters_without_embeddings"]


@pytest.mark.slow
def test_whole_attentions_may_go_only_where_nothing_else_meets_the_budget(here: Workplace, models: Path) -> None:
    rates = {name: written(here.prunecast("init", str(models / name)))["space"]["attention"] for name in MODELS}
    assert {name for name, attention in rates.items() if 1.0 in attention} == {"one-head"}


def test_the_spec_is_printed_and_is_the_same_every_time(here: Workplace, models: Path) -> None:
    first, second = (here.prunecast("init", str(models / "fused"), "--minutes", "600") for _ in range(2))
    assert first.stdout == second.stdout
    assert written(first)["name"] == "fused-80"
    assert list(here.folder.iterdir()) == []


def test_notes_go_to_stderr(here: Workplace, models: Path) -> None:
    takes, text = here.prunecast("init", str(models / "llama")).stderr.splitlines()
    assert takes.startswith("the run takes about ")
    assert "name better text with --calibration FILE --evaluate FILE" in text


def test_more_minutes_allow_more_pairs_and_fewer_are_refused_with_the_number_that_does(
    here: Workplace, models: Path
) -> None:
    line = refused(here, str(models / "deep"), "--minutes", "0.001")
    enough = line.rpartition("give --minutes ")[2].removesuffix(" or more")
    assert 0.001 < float(enough) < 60
    # The speed is measured each time, and another process may be at work.
    little = written(here.prunecast("init", str(models / "deep"), "--minutes", str(2 * float(enough))))
    much = written(here.prunecast("init", str(models / "deep"), "--minutes", "6000"))
    assert little["collect"]["pairs"] < much["collect"]["pairs"]
    assert little["evaluators"][0]["tokens"] < much["evaluators"][0]["tokens"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--minutes", "nan", "nan is not a finite number"),
        ("--minutes", "inf", "inf is not a finite number"),
        ("--budget", "nan", "nan is not a finite number"),
        ("--minutes", "0", "0.0 is not in the range x>0"),
    ],
)
def test_a_time_and_a_share_are_numbers(here: Workplace, option: str, value: str, message: str) -> None:
    outcome = here.prunecast("init", "any", option, value)
    assert outcome.code == 2
    assert message in outcome.stderr


# ------------------------------------------------------------------------------------------------------------- files


def test_an_existing_file_is_replaced_only_by_force(here: Workplace, models: Path) -> None:
    (here.folder / "spec.yaml").write_text("mine")
    line = refused(here, str(models / "llama"), "--output", "spec.yaml")
    assert line == "spec.yaml: exists; name another file with --output, or replace it with --force"
    assert (here.folder / "spec.yaml").read_text() == "mine"
    assert here.prunecast("init", str(models / "llama"), "--output", "spec.yaml", "--force").code == 0
    assert (here.folder / "spec.yaml").read_text().startswith("# Prunes ")


def test_an_export_that_is_there_is_not_written_over(here: Workplace, models: Path) -> None:
    (here.folder / "out" / "llama-80").mkdir(parents=True)
    spec = written(here.prunecast("init", str(models / "llama")))
    assert (spec["name"], spec["export"]["path"]) == ("llama-80-2", "out/{name}")


def test_a_place_where_no_file_can_be_is_refused(here: Workplace, models: Path) -> None:
    (here.folder / "folder").mkdir()
    assert "is a folder" in refused(here, str(models / "llama"), "-o", "folder")
    assert "there is no folder never" in refused(here, str(models / "llama"), "-o", "never/spec.yaml")


def test_relative_paths_start_from_the_folder_of_the_spec(here: Workplace, models: Path) -> None:
    (here.folder / "specs").mkdir()
    (here.folder / "model one").symlink_to(models / "llama", target_is_directory=True)
    (here.folder / "notes.txt").write_text("".join(f"The {number}th line of the notes.\n" for number in range(4000)))
    named = ("--calibration", "notes.txt", "--evaluate", "notes.txt", "-o", "specs/spec.yaml")
    assert here.prunecast("init", "model one", *named).code == 0
    spec = yaml.safe_load((here.folder / "specs" / "spec.yaml").read_text())
    assert (spec["name"], spec["model"]["source"]) == ("model-one-80", "../model one")
    assert {(text["dataset"], text["split"]) for text in spec["pruner"]["calibration"]} == {("../notes.txt", "train")}
    assert here.prunecast("run", "specs/spec.yaml", "--dry-run").code == 0


# --------------------------------------------------------------------------------------------------------- bad input


def changed(models: Path, folder: Path, **config: object) -> str:
    """A copy of the tiny Llama with another config; its path."""
    shutil.copytree(models / "llama", folder / "changed")
    edit_config(folder / "changed", **config)
    return str(folder / "changed")


def test_what_is_no_language_model_is_refused(here: Workplace, models: Path, tmp_path_factory: Any) -> None:
    place = tmp_path_factory.mktemp("place")
    (place / "empty").mkdir()
    assert "no config.json" in refused(here, str(place / "empty"))
    assert "type 't5' is not a causal language model" in refused(here, changed(models, place, model_type="t5"))
    assert "type 'mamba' is not" in refused(here, changed(models, place / "other", model_type="mamba"))
    assert "no such folder" in refused(here, "some-organisation/never")


def test_a_model_without_a_tokenizer_or_weights_is_refused(
    here: Workplace, models: Path, tmp_path_factory: Any
) -> None:
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(models / "llama", place / "silent", ignore=shutil.ignore_patterns("tokenizer*"))
    assert "no complete tokenizer" in refused(here, str(place / "silent"))
    shutil.copytree(models / "llama", place / "weightless", ignore=shutil.ignore_patterns("*.safetensors"))
    assert "no weights" in refused(here, str(place / "weightless"))


def test_without_text_that_the_tokenizer_knows_the_options_are_named(
    here: Workplace, models: Path, tmp_path_factory: Any
) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    folder = Path(shutil.copytree(models / "llama", tmp_path_factory.mktemp("place") / "digits"))
    words = Tokenizer(WordLevel({"<unk>": 0, **{str(number): number + 1 for number in range(10)}}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    line = refused(here, str(folder))
    assert line.startswith("error: no text at hand that the tokenizer of ")
    assert "--calibration FILE --evaluate FILE" in line


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--calibration", "never.txt"), "--calibration never.txt: data set never.txt: no file"),
        (("--calibration", "short.txt"), "--calibration short.txt: split train has 0 of 2 windows of 512 tokens"),
        (("--evaluate", "python-docs", "--calibration", "python-docs"), None),
        (("--evaluate", "text-val.txt"), "--evaluate text-val.txt: no text for the split test"),
        (("--evaluate", "text.txt", "--evaluate", "other/text.txt"), "two texts are called text"),
        (("--budget", "0.001"), "Raise the budget to at least 0."),
    ],
)
def test_texts_and_budgets_that_do_not_fit(
    here: Workplace, models: Path, options: tuple[str, ...], problem: str | None
) -> None:
    lines = "".join(f"Line {number} of a text.\n" for number in range(20000))
    (here.folder / "other").mkdir()
    for name in ("text.txt", "text-val.txt", "other/text.txt"):
        (here.folder / name).write_text(lines + name)
    (here.folder / "short.txt").write_text("Too short.\n")
    if problem is None:
        assert here.prunecast("init", str(models / "llama"), *options).code == 0
    else:
        assert problem in refused(here, str(models / "llama"), *options)


def test_the_same_text_is_not_calibrated_on_and_evaluated(here: Workplace, models: Path) -> None:
    (here.folder / "text.txt").write_text("".join(f"Line {number} of a text.\n" for number in range(20000)))
    shutil.copy(here.folder / "text.txt", here.folder / "copied-val.txt")
    line = refused(here, str(models / "llama"), "--calibration", "copied-val.txt", "--evaluate", "text.txt")
    assert "used for calibration and for evaluation" in line
