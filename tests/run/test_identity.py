"""A number belongs to what it was measured from: one thing is changed between a run and each use of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from slow_cases import slow_but
from workplace import SPEC, Outcome, Workplace

EVALUATOR = """
import torch
from scoring import factor
from prunecast.plugins import Entry, Evaluator, Measurement, Metric, PluginOptions, hookimpl

class Options(PluginOptions):
    pass

class Bits(Evaluator[Options]):
    options_model = Options
    metrics = (Metric("bits", "minimize", "bits"),)
    data_hash = None
    tokens = 64

    def prepare(self, tokenizer, shape, data_dir):
        pass

    def evaluate(self, model):
        ids = torch.arange(64)[None]
        loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1].float(), ids[0, 1:])
        return [Measurement(self.metrics[0], factor() * float(loss), None, 63)]

@hookimpl
def prunecast_evaluators():
    return [Entry("bits", f"{__name__}:Bits", "Bits per token.")]
"""

PERPLEXITY = SPEC["evaluators"][0]

CHANGES = {
    "model": {**SPEC["model"], "family": "family.yaml"},
    "plugins": ["plug/bits.py"],
    "evaluators": [PERPLEXITY, {"use": "bits"}],
    "collect": {"pairs": 10},
    "rounds": 1,
    "per_round": 1,
    "verify": {"top": 1},
    "baselines": [],
    "export": None,
}

NAMED = ("--plugin-dir", "plug/bits.py")
"""Names the local plugin again, which no recorded spec executes by itself."""

PERPLEXITY_ALONE = {"plugins": None, "evaluators": [PERPLEXITY]}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Workplace:
    """A workplace with a finished run of a spec that has an evaluator of its own, which imports a module beside it."""
    workplace = Workplace.make(tmp_path_factory.mktemp("measured") / "place", tiny_checkpoint)
    (workplace.folder / "model").unlink()
    shutil.copytree(tiny_checkpoint, workplace.folder / "model")
    (workplace.folder / "plug").mkdir()
    (workplace.folder / "plug" / "bits.py").write_text(EVALUATOR)
    (workplace.folder / "plug" / "scoring.py").write_text("def factor():\n    return 1.0\n")
    (workplace.folder / "family.yaml").write_text("name: llama\n")
    workplace.write_spec("tiny", CHANGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNECAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert workplace.prunecast("run", "tiny.yaml", "--json").code == 0
    return workplace


@pytest.fixture
def place(measured: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workplace:
    """The workplace at the same path, in which one thing is to be changed; as it was before, afterwards."""
    shutil.copytree(measured.folder, saved := tmp_path / "saved")
    yield measured
    shutil.rmtree(measured.folder)
    shutil.copytree(saved, measured.folder)


def _weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model" / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.up_proj.weight"] *= 1.5
    save_file(weights, file, metadata={"format": "pt"})


def _config(folder: Path) -> None:
    file = folder / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rms_norm_eps": 0.1}))


def _tokenizer(folder: Path) -> None:
    file = folder / "model" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "Lowercase"}}))


def _text(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text((folder / name).read_text()[::-1])

    return change


def _code(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "plug" / name
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return change


def _description(folder: Path) -> None:
    (folder / "family.yaml").write_text("name: llama\nbos: true\n")


MUTATIONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights": (_weights, "the model (weights or config)"),
    "config": (_config, "the model (weights or config)"),
    "description": (_description, "the description of the model's family"),
    "tokenizer": (_tokenizer, "the tokenizer"),
    "calibration": (_text("calibration.txt"), "the pruner's calibration text"),
    "evaluated text": (_text("validation.txt"), "the data of perplexity dataset=validation.txt"),
    "evaluator's code": (_code("bits.py", "factor() *", "3 + factor() *"), "bits.py"),
    "helper": (_code("scoring.py", "1.0", "10.0"), "bits.py"),
}


DAILY = ("weights",)


@pytest.mark.parametrize("name", slow_but(DAILY, MUTATIONS))
def test_nothing_recorded_is_used_for_something_else(place: Workplace, name: str) -> None:
    change, described = MUTATIONS[name]
    folder = place.folder
    before = folder.joinpath("registry.db").read_bytes()
    change(folder)
    refusing = {
        "export": ("export", "tiny", "again", *NAMED),
        "report": ("report", "tiny", "--out", "pages", *NAMED),
        "predict": ("predict", "tiny.yaml"),
        "verify": ("registry", "verify", "--remeasure", "2", *NAMED),
    }
    for command, arguments in refusing.items():
        outcome = place.prunecast(*arguments)
        assert outcome.code == 1, (command, outcome)
        assert outcome.stdout == "", command
        message = outcome.stderr.strip().splitlines()[-1]
        assert described in message or (command == "predict" and "another model, text or code" in message), message
    assert not (folder / "again").exists()
    assert not (folder / "pages").exists()
    assert folder.joinpath("registry.db").read_bytes() == before
    again = place.prunecast("run", "tiny.yaml", "--json")
    assert again.code == 0, again.stderr
    assert again.json["run"] == 2
    assert again.json["evaluations"]["measured"] > 0
    assert described in again.stderr
    best = dict(place.sql("SELECT id, json_extract(result_json, '$.best.metrics') FROM runs"))
    assert best[1] != best[2]  # what is measured anew is another number


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"pruner": {**SPEC["pruner"], "calibration": {**SPEC["pruner"]["calibration"], "seed": 1}}},
        {"model": {**CHANGES["model"], "dtype": "bfloat16"}},
        {"evaluators": [{**PERPLEXITY, "bos": "always"}, {"use": "bits"}]},
    ],
    ids=["pruner's options", "dtype", "bos"],
)
def test_another_spec_is_measured_anew_and_the_run_of_the_old_one_stays(place: Workplace, change: dict) -> None:  # type: ignore[type-arg]
    place.write_spec("tiny", CHANGES | change)
    again = place.prunecast("run", "tiny.yaml", "--json")
    assert (again.code, again.json["run"]) == (0, 2)
    assert again.json["evaluations"]["measured"] > 0
    best = dict(place.sql("SELECT id, json_extract(result_json, '$.best.metrics') FROM runs"))
    assert best[1] != best[2]
    first = place.prunecast("export", "1", "first", *NAMED)
    assert first.code == 0, first.stderr
    assert json.loads((place.folder / "first" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.slow
def test_what_is_unchanged_is_used(place: Workplace) -> None:
    assert place.prunecast("run", "tiny.yaml", "--json").json["evaluations"]["measured"] == 0
    for arguments in (
        ("export", "tiny", "again", *NAMED),
        ("report", "tiny", "--out", "pages", *NAMED),
        ("predict", "tiny.yaml"),
        ("registry", "verify", "--remeasure", "2", *NAMED),
    ):
        outcome: Outcome = place.prunecast(*arguments)
        assert outcome.code == 0, outcome


def test_a_report_of_numbers_as_they_were_recorded_is_made_on_request(place: Workplace) -> None:
    _weights(place.folder)
    assert place.prunecast("report", "tiny", "--out", "pages", "--as-recorded").code == 0


def test_a_report_is_made_where_the_model_is_not_at_hand_and_says_so(place: Workplace) -> None:
    shutil.rmtree(place.folder / "model")
    outcome = place.prunecast("report", "tiny", "--out", "pages", *NAMED)
    assert outcome.code == 0
    assert outcome.stderr.startswith("not compared with what the run was made from")


def test_after_a_change_back_the_first_run_is_continued(place: Workplace) -> None:
    original = (place.folder / "validation.txt").read_text()
    _text("validation.txt")(place.folder)
    assert place.prunecast("run", "tiny.yaml", "--json").json["run"] == 2
    (place.folder / "validation.txt").write_text(original)
    back = place.prunecast("run", "tiny.yaml", "--json").json
    assert (back["run"], back["evaluations"]["measured"]) == (1, 0)


def test_the_run_measured_anew_is_exported_from_what_is_there_now(place: Workplace) -> None:
    _weights(place.folder)
    assert place.prunecast("run", "tiny.yaml", "--json").json["run"] == 2
    assert place.prunecast("export", "2", "again", *NAMED).code == 0
    assert place.prunecast("export", "1", "first", *NAMED).code == 1


@pytest.mark.slow
def test_the_commit_of_a_hub_model_is_recorded_and_exported_from_after_main_has_moved(
    workplace: Workplace, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = "1" * 40, "2" * 40
    cached = tmp_path / "hub" / "models--some--model"
    shutil.copytree(tiny_checkpoint, cached / "snapshots" / first)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(first)
    # The library reads these once, so every command runs in a process of its own.
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    workplace.write_spec("hub", CHANGES | {"model": {**SPEC["model"], "source": "some/model"}} | PERPLEXITY_ALONE)

    def printed(*arguments: str) -> tuple[str, str]:
        process = workplace.start(*arguments)
        return process.communicate(timeout=120)

    assert f"some/model, commit {first}, in float32" in printed("run", "hub.yaml", "--quiet")[0]
    shutil.copytree(cached / "snapshots" / first, other := cached / "snapshots" / second)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    (cached / "refs" / "main").write_text(second)
    _, errors = printed("export", "1", "of-first")
    card = (workplace.folder / "of-first" / "README.md").read_text()
    assert f"https://huggingface.co/some/model/tree/{first}) at commit `{first}`" in card, errors
    assert json.loads((workplace.folder / "of-first" / "config.json").read_text())["rms_norm_eps"] != 0.1
    _, errors = printed("run", "hub.yaml")
    assert "the model (weights or config) changed since run 1 (hub)" in errors
    assert [json.loads(spec)["model"]["revision"] for (spec,) in workplace.sql("SELECT spec_json FROM runs")] == [
        first,
        second,
    ]
