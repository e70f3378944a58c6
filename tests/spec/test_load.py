"""Loading of specs: valid ones are filled with defaults, invalid ones report all errors at once."""

import json
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from toy_plugins import GHOST, LadderOptions, SlopeOptions, WordsOptions, toy_host

from prunecast.errors import SpecError
from prunecast.spec import load
from prunecast.spec.load import load_spec, parse_spec
from prunecast.spec.model import Spec, SpecContext

HOST = toy_host(GHOST)
MINIMAL = """\
model: {source: tiny}
space: {use: ladder, steps: [0.0, 0.5, 1.0]}
pruner: slope
evaluators:
  - {use: words, dataset: books}   # the only text there is
predictor: line
searcher: dice
"""
KEY_OF_MINIMAL = "e3818052dc805b67a6cf63631ad49a09"


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, HOST, overrides, Path("s.yaml"))
    return caught.value.problems


def problem(changed: str, *overrides: str) -> str:
    """The only problem of the minimal spec with one top-level key replaced or added."""
    kept = [line for line in MINIMAL.splitlines() if not changed.startswith(line.partition(":")[0] + ":")]
    if changed.startswith("evaluators:"):
        kept = [line for line in kept if not line.startswith("  -")]
    (only,) = problems("\n".join([changed, *kept]), *overrides)
    return only


def test_an_unknown_family_is_told_at_its_place() -> None:
    wanted = "no family is called 'lama'; available: none, no plugin provides one"
    assert problem("model: {source: tiny, family: lama}") == f"s.yaml:1:31: model.family: {wanted}"
    assert problem("name: x", "model.family=lama") == f"--set model.family=lama:1:1: model.family: {wanted}"


def test_the_file_of_a_family_is_relative_to_the_spec_and_its_mistake_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: own\nquery: [a]\n")
    text = MINIMAL.replace("{source: tiny}", "{source: tiny, family: own.yaml}")
    with pytest.raises(SpecError) as caught:
        parse_spec(text, HOST, path=tmp_path / "s.yaml")
    place = f"{tmp_path / 's.yaml'}:1:31: model.family: {tmp_path / 'own.yaml'}:2:8: query"
    assert caught.value.problems == [f"{place}: must be text, got a list"]
    (tmp_path / "own.yaml").write_text("name: own\nlayers: h\n")
    spec = parse_spec(text, HOST, path=tmp_path / "s.yaml")
    assert spec.families.chosen is not None
    assert spec.families.chosen.layers == "h"
    assert spec.key != parse_spec(MINIMAL, HOST).key


def test_a_minimal_spec_is_filled_with_every_default() -> None:
    spec = parse_spec(MINIMAL, HOST, path=Path("folder/mine.yaml"))
    assert json.loads(spec.to_json()) == {
        "name": "mine",
        "model": {
            "source": "tiny",
            "revision": None,
            "config": None,
            "family": None,
            "dtype": "auto",
            "device": "auto",
            "placement": "auto",
            "trust_remote_code": False,
        },
        "folder": str(Path("folder").absolute()),
        "data_dir": None,
        "splits": {"train": 0.9, "validation": 0.05, "test": 0.05},
        "plugins": [],
        "space": {"use": "ladder", "steps": [0.0, 0.5, 1.0], "layers": "all"},
        "pruner": {
            "use": "slope",
            "order": 1,
            "calibration": {
                "dataset": "books",
                "split": "calibration",
                "samples": 10,
                "tokens": 128,
                "seed": 0,
                "bos": "auto",
            },
        },
        "evaluators": [{"use": "words", "dataset": "books", "tokens": 1024}],
        "predictor": {"use": "line", "ridge": 1.0},
        "searcher": {"use": "dice", "trials": 10},
        "objective": None,
        "budget": {},
        "collect": {"pairs": 60, "band": 0.05, "reuse": False, "architectures": None},
        "warm_start": None,
        "rounds": 1,
        "per_round": 8,
        "refit_after": 1.0,
        "neighbours": 0,
        "choose": {"rule": "confidence", "width": 1.0, "reach": 0.5, "within": None, "shrink": 1.0},
        "refine": None,
        "verify": {"top": 3, "evaluators": []},
        "baselines": ["uniform", "uniform-mlp"],
        "baseline_evaluations": None,
        "export": None,
        "recover": None,
        "seed": 0,
    }


def test_plugin_options_are_instances_of_the_plugins_models() -> None:
    spec = parse_spec(MINIMAL, HOST)
    assert spec.space.options == LadderOptions(steps=[0.0, 0.5, 1.0])
    assert spec.pruner.options == SlopeOptions()
    assert [type(use.options) for use in spec.evaluators] == [WordsOptions]
    assert (spec.space.use, spec.space.kind) == ("ladder", "space")


def test_the_canonical_json_is_a_spec_with_the_same_content() -> None:
    spec = parse_spec(MINIMAL, HOST, ["export={path: out}", "budget.parameters=0.8"])
    again = Spec.model_validate_json(spec.to_json(), context=SpecContext(HOST))
    assert again.to_json() == spec.to_json()
    assert parse_spec(yaml.safe_dump(json.loads(spec.to_json())), HOST).key == spec.key


def test_the_source_text_is_kept_outside_the_content() -> None:
    spec = parse_spec(MINIMAL, HOST, ["seed=0"], Path("a/b.yaml"))
    assert spec.source.text == MINIMAL
    assert spec.source.path == Path("a/b.yaml")
    assert spec.source.overrides == ("seed=0",)
    assert "the only text" not in spec.to_json()


def test_data_dir_is_relative_to_the_file_whose_folder_is_not_in_the_key() -> None:
    text = f"{MINIMAL}\ndata_dir: texts\n"
    first = parse_spec(text, HOST, path=Path("/a/s.yaml"))
    second = parse_spec(text, HOST, path=Path("/b/s.yaml"))
    assert (first.data_path, second.data_path) == (Path("/a/texts"), Path("/b/texts"))
    assert first.key == second.key
    assert parse_spec(MINIMAL, HOST, ["data_dir=/texts"], Path("/a/s.yaml")).data_path == Path("/texts")
    assert parse_spec(MINIMAL, HOST).data_path is None


# --------------------------------------------------------------------------------------------------- content key


def shuffled(data: object, rng: random.Random) -> object:
    if isinstance(data, dict):
        return {key: shuffled(data[key], rng) for key in rng.sample(list(data), len(data))}
    return [shuffled(item, rng) for item in data] if isinstance(data, list) else data


@given(st.integers(), st.booleans())
def test_the_key_ignores_key_order_style_and_explicit_defaults(seed: int, flow: bool) -> None:
    spec = parse_spec(MINIMAL, HOST)
    data = shuffled(json.loads(spec.to_json()), random.Random(seed))
    text = yaml.safe_dump(data, sort_keys=False, default_flow_style=flow)
    assert parse_spec(text, HOST).key == spec.key


def test_the_key_is_the_same_in_every_version_and_process() -> None:
    assert parse_spec(MINIMAL, HOST).key == KEY_OF_MINIMAL


@pytest.mark.parametrize("override", ["name=other", "export={path: elsewhere}"])
def test_the_key_ignores_the_name_and_the_export(override: str) -> None:
    assert parse_spec(MINIMAL, HOST, [override]).key == KEY_OF_MINIMAL


@pytest.mark.parametrize(
    "override",
    ["seed=1", "predictor.ridge=2", "evaluators.0.tokens=7", "pruner.calibration.samples=3", "model.dtype=float32"],
)
def test_the_key_changes_with_content_down_to_nested_plugin_options(override: str) -> None:
    assert parse_spec(MINIMAL, HOST, [override]).key != KEY_OF_MINIMAL


def test_the_key_is_equal_for_a_float_and_the_same_integer() -> None:
    assert (
        parse_spec(MINIMAL, HOST, ["predictor.ridge=2"]).key == parse_spec(MINIMAL, HOST, ["predictor.ridge=2.0"]).key
    )
    assert parse_spec(MINIMAL, HOST, ["budget.macs=1"]).key == parse_spec(MINIMAL, HOST, ["budget.macs=1.0"]).key


@given(st.integers(0, 2**40), st.integers(1, 2**40), st.floats(1e-9, 1e9))
def test_overrides_are_equivalent_to_values_in_the_file(seed: int, tokens: int, ridge: float) -> None:
    data = yaml.safe_load(MINIMAL) | {"seed": seed, "predictor": {"use": "line", "ridge": ridge}}
    data["evaluators"][0]["tokens"] = tokens
    ridge_text = yaml.safe_dump(ridge).split()[0]
    overrides = [f"seed={seed}", f"evaluators.0.tokens={tokens}", f"predictor.ridge={ridge_text}"]
    assert parse_spec(MINIMAL, HOST, overrides).key == parse_spec(yaml.safe_dump(data), HOST).key


# ------------------------------------------------------------------------------------------------------ problems

MANY_MISTAKES = """\
modle: {source: tiny}
space:
  use: ladder
  steps: [0.0, 1.5, half]
  layer: "3:28"
pruner: {use: slope, order: 3, calibration: {sampels: 5}}
evaluators:
  - {use: words, tokens: 0}
  - {use: worsd, dataset: books}
predictor: ghost
searcher: {trials: 5}
objective: {books.ppl: 0}
budget: {parametres: 0.8, macs: -1}
collect: {pairs: 2, band: 1e-1}
rounds: "4"
verify: {top: 2.5}
baselines: [uniform, unifrom-mlp]
export: out
seed: yes
rounds: 3
"""


MANY_MESSAGES = """\
s.yaml:1:1: model: required, but missing
s.yaml:1:1: modle: unknown option 'modle' (did you mean 'model'?); known: KNOWN
s.yaml:4:16: space.steps.1: must be at most 1.0, got 1.5
s.yaml:4:21: space.steps.2: must be a number, got 'half'
s.yaml:5:3: space.layer: unknown option 'layer' (did you mean 'layers'?); known: steps, layers
s.yaml:6:46: pruner.calibration.sampels: unknown option 'sampels' (did you mean 'samples'?); known: SAMPLES
s.yaml:8:5: evaluators.0.dataset: required, but missing
s.yaml:8:26: evaluators.0.tokens: must be at least 1, got 0
s.yaml:9:11: evaluators.1.use: no evaluator is called 'worsd' (did you mean 'words'?); available: words
s.yaml:10:12: predictor: predictor 'ghost' of toys - failed in its import from 'no_such_module:Ghost': REASON
s.yaml:11:11: searcher: must name a searcher: write use: NAME; available: dice
s.yaml:12:24: objective."books.ppl": must be greater than 0.0, got 0
s.yaml:13:10: budget.parametres: unknown option 'parametres' (did you mean 'parameters'?); known: QUANTITIES
s.yaml:13:33: budget.macs: must be greater than 0.0, got -1
s.yaml:14:18: collect.pairs: must be at least 4, got 2
s.yaml:14:27: collect.band: YAML reads 1e-1 as text: write 1.0e-1 for a number, "1e-1" for text
s.yaml:16:15: verify.top: must be a whole number, got 2.5
s.yaml:17:22: baselines.1: must be BASELINES, got 'unifrom-mlp' (did you mean 'uniform-mlp'?)
s.yaml:18:9: export: must be a mapping, got 'out'
s.yaml:19:7: seed: YAML reads yes as true: write true, or "yes" for text
s.yaml:20:1: rounds: written twice, first on line 15: remove one
--set pruner.order=two:1:1: pruner.order: must be 1 or 2, got 'two'
--set serach.trials=3:1:1: serach: unknown option 'serach' (did you mean 'searcher'?); known: KNOWN
"""
LONG_PARTS = {
    "BASELINES": (
        "'uniform', 'uniform-mlp', 'uniform-uncompensated', 'uniform-mlp-uncompensated', 'depth-last', "
        "'depth-importance', 'random-search' or 'evolution'"
    ),
    "KNOWN": (
        "name, folder, model, data_dir, splits, plugins, space, pruner, evaluators, predictor, searcher, objective, "
        "budget, collect, warm_start, rounds, per_round, refit_after, neighbours, choose, refine, verify, baselines, "
        "baseline_evaluations, recover, export, executor, seed"
    ),
    "SAMPLES": "dataset, split, samples, tokens, seed, bos",
    "REASON": "No module named 'no_such_module'",
    "QUANTITIES": "parameters, parameters_without_embeddings, macs, kv_cache_bytes, prefill_ms, decode_ms, batch, "
    "context",
}


def test_all_errors_of_a_spec_are_reported_in_order_of_place() -> None:
    expected = MANY_MESSAGES
    for short, long in LONG_PARTS.items():
        expected = expected.replace(short, long)
    assert problems(MANY_MISTAKES, "pruner.order=two", "serach.trials=3") == expected.splitlines()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("model: tiny", "s.yaml:1:8: model: must be a mapping, got 'tiny'"),
        ("model:", "s.yaml:1:7: model: must be a mapping, got nothing"),
        ("model: {source: 7}", "s.yaml:1:17: model.source: must be text, got 7: put it in quotes"),
        ("model: {source: ''}", "s.yaml:1:17: model.source: needs at least 1 character(s)"),
        (
            "model: {source: tiny, dtype: flaot32}",
            "s.yaml:1:30: model.dtype: must be 'auto', 'float32', 'bfloat16' or 'float16', "
            "got 'flaot32' (did you mean 'float32'?)",
        ),
        (
            "model: {source: tiny, trust_remote_code: 1}",
            "s.yaml:1:42: model.trust_remote_code: must be true or false, got 1",
        ),
        ("evaluators: []", "s.yaml:1:13: evaluators: needs at least 1 item(s), has 0"),
        ("evaluators: words", "s.yaml:1:13: evaluators: must be a list, got 'words'"),
        ("evaluators: [words]", "s.yaml:1:14: evaluators.0.dataset: required, but missing"),
        ("predictor: 7", "s.yaml:1:12: predictor: must be the name of a predictor, or a mapping with use: NAME"),
        (
            "predictor: lin",
            "s.yaml:1:12: predictor: no predictor is called 'lin' (did you mean 'line'?); "
            "available: deep, ghost, line, shallow",
        ),
        (
            "predictor: {use: line, treis: 3, ridge: 1}",
            "s.yaml:1:24: predictor.treis: unknown option 'treis'; known: ridge",
        ),
        (
            "predictor: {use: [line]}",
            "s.yaml:1:18: predictor.use: must name a predictor: write use: NAME; available: deep, ghost, line, shallow",
        ),
        ("space: {use: ladder, steps: [1.0, 0.5]}", "s.yaml:1:29: space.steps: steps must ascend: sort them"),
        (
            "space: {use: ladder, steps: [1.0], layers: {}}",
            "s.yaml:1:44: space.layers: must be a list, got a mapping; or must be text, got a mapping",
        ),
        (
            "predictor: {use: deep, growth: {dept: 3}}",
            "s.yaml:1:33: predictor.growth.dept: unknown option 'dept' (did you mean 'depth'?); known: depth",
        ),
        (
            "verify: {evaluators: [{use: words, dataset: x, token: 3}]}",
            "s.yaml:1:48: verify.evaluators.0.token: "
            "unknown option 'token' (did you mean 'tokens'?); known: dataset, tokens",
        ),
        ("objective: {}", "s.yaml:1:12: objective: needs at least 1 item(s), has 0"),
        ("objective: [a]", "s.yaml:1:12: objective: must be a mapping, got a list"),
        ("collect: {band: 1.0}", "s.yaml:1:17: collect.band: must be less than 1.0, got 1.0"),
        ("rounds: true", "s.yaml:1:9: rounds: must be a whole number, got true"),
        ("rounds: 2.0", "s.yaml:1:9: rounds: must be a whole number, got 2.0"),
        ("seed: -1", "s.yaml:1:7: seed: must be at least 0, got -1"),
        ("name: {}", "s.yaml:1:7: name: must be text, got a mapping"),
    ],
)
def test_each_kind_of_error_says_what_is_valid(changed: str, message: str) -> None:
    assert problem(changed) == message


# --------------------------------------------------------------------------------------------------------- files


def test_a_spec_is_named_after_the_stem_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "first try.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    spec = load_spec(file, HOST)
    assert spec.name == "first try"
    assert spec.source.path == file
    assert load_spec(str(file), HOST, ["name=second"]).name == "second"


def test_a_file_that_is_not_utf8_is_an_error_at_the_first_wrong_byte(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("a: 1\nb: café\n".encode("latin-1"))
    with pytest.raises(SpecError, match=r"latin\.yaml:2:7: byte 0xe9 is not UTF-8: save the file as UTF-8$"):
        load_spec(file, HOST)


def test_a_folder_is_a_spec_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_spec(tmp_path, HOST)


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with two specs, seen from an empty working directory."""
    package = tmp_path / "site" / "prunecast"
    (package / "specs").mkdir(parents=True)
    for name in ("quickstart", "paper"):
        (package / "specs" / f"{name}.yaml").write_text(MINIMAL)
    monkeypatch.setattr(load, "files", lambda name: package)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return package


def test_a_packaged_spec_is_found_by_name_unless_a_file_has_that_name(packaged: Path) -> None:
    assert load_spec("quickstart", HOST).name == "quickstart"
    Path("quickstart").mkdir()
    assert load_spec("quickstart", HOST).source.path == packaged / "specs" / "quickstart.yaml"
    Path("quickstart").rmdir()
    Path("quickstart").write_text(MINIMAL + "seed: 9\n")
    assert load_spec("quickstart", HOST).seed == 9


def test_a_missing_file_names_the_nearest_and_all_packaged_specs(packaged: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec("specs/quikstart.yaml", HOST)
    assert str(caught.value) == (
        "specs/quikstart.yaml:1:1: no such file (did you mean 'quickstart'?): "
        "write a path, or the name of a packaged spec: paper, quickstart"
    )


def test_an_editable_checkout_finds_the_specs_beside_the_source_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "mine.yaml").write_text(MINIMAL)
    monkeypatch.setattr(load, "files", lambda name: tmp_path / "core" / "prunecast")
    assert load.packaged_specs() == {"mine": tmp_path / "specs" / "mine.yaml"}
