"""The beginning-of-sequence token in the keys of a set-up, in its calibration text and in a recovery."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workplace import TEXTS, Workplace

from prunecast.errors import DataError
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import Setup
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.run.delivery import recoverer_of
from prunecast.spec.load import load_spec

TEXT = {"dataset": "calibration.txt", "samples": 4, "tokens": 32}
PERPLEXITY = {"use": "perplexity", "dataset": "validation.txt", "tokens": 256, "context": 64}
DISTILL = {"method": "distill", "dataset": "calibration.txt", "samples": 4, "tokens": 32, "dtype": "float32"}
LORA = {"method": "lora", "dataset": "instructions.jsonl", "tokens": 400, "rank": 2, "dtype": "float32"}

BEGIN = 1
"""Id of ``<s>`` in the tokenizer of the tiny checkpoint."""

MakeSetup = Callable[..., Setup]


@pytest.fixture(params=["llama", "gemma2"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def setup_of(
    tmp_path: Path, tiny_checkpoint: Path, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> MakeSetup:
    """Maker of the set-up of a spec with some keys replaced, for a tiny model of a family."""

    def make(family: str, **changes: Any) -> Setup:
        folder = tmp_path / family
        if not folder.is_dir():
            model = tiny_model(family, vocab_size=98)
            model.save_pretrained(folder / "model")
            for file in tiny_checkpoint.glob("tokenizer*"):
                shutil.copy(file, folder / "model")
            for name in TEXTS:
                shutil.copy(tiny_checkpoint.parent / name, folder)
            text = (folder / "calibration.txt").read_text()
            rows = [
                {"instruction": text[i : i + 9], "input": "", "output": text[i : i + 40]} for i in range(0, 640, 64)
            ]
            (folder / "instructions.jsonl").write_text("\n".join(map(json.dumps, rows)))
        monkeypatch.chdir(folder)
        Workplace(folder).write_spec("begun", {"export": None, "verify": {"top": 1}, **changes})
        host = PluginHost.discover()
        return Setup(load_spec("begun.yaml", host), host)

    return make


def key_of(setup: Setup) -> str:
    return setup.evaluators[0].setting.key


def alike(keys: dict[str, str]) -> set[frozenset[str]]:
    """The names whose keys are equal."""
    return {frozenset(name for name, key in keys.items() if key == one) for one in keys.values()}


IN_FRONT = {
    "llama": {frozenset({"left out", "auto", "never"}), frozenset({"always"})},
    "gemma2": {frozenset({"left out", "auto", "always"}), frozenset({"never"})},
}
OPTION: dict[str, dict[str, str]] = {"left out": {}, **{bos: {"bos": bos} for bos in ("auto", "always", "never")}}


def test_the_key_of_an_evaluation_tells_whether_the_token_is_in_front(family: str, setup_of: MakeSetup) -> None:
    keys = {name: key_of(setup_of(family, evaluators=[PERPLEXITY | bos])) for name, bos in OPTION.items()}
    assert alike(keys) == IN_FRONT[family]


def test_the_key_of_a_pruner_tells_whether_the_token_is_in_front_of_its_text(family: str, setup_of: MakeSetup) -> None:
    for use, wanted in (("taylor", lambda text: text), ("obs", lambda text: [text])):
        keys = {
            name: key_of(setup_of(family, pruner={"use": use, "calibration": wanted(TEXT | bos)}))
            for name, bos in OPTION.items()
        }
        assert alike(keys) == IN_FRONT[family]


def test_the_key_of_a_compensation_tells_whether_the_token_is_in_front_of_its_text(
    family: str, setup_of: MakeSetup
) -> None:
    keys = {}
    for name, bos in OPTION.items():
        compensate = {"method": "bias", "calibration": [TEXT | bos]}
        keys[name] = key_of(setup_of(family, pruner={"use": "magnitude", "compensate": compensate}))
    assert alike(keys) == IN_FRONT[family]


@pytest.mark.parametrize("options", [DISTILL, LORA], ids=["distill", "lora"])
def test_the_key_of_a_recovery_tells_whether_the_token_is_in_front_of_its_text(
    options: dict[str, Any], family: str, setup_of: MakeSetup
) -> None:
    keys, hashes = {}, {}
    for name, bos in OPTION.items():
        setup = setup_of(family, recover=options | bos)
        assert setup.spec.recover is not None
        recoverer = recoverer_of(setup, setup.spec.recover, lambda: None, Progress(quiet=True))  # type: ignore[arg-type, return-value]
        keys[name], hashes[name] = recoverer.evaluators[0].setting.key, recoverer.data.data_hash
    assert alike(keys) == alike(hashes) == IN_FRONT[family]


def test_calibration_and_compensation_read_the_token_before_every_sequence(setup_of: MakeSetup) -> None:
    compensate = {"method": "least-squares", "calibration": [TEXT, TEXT | {"bos": "never", "seed": 1}]}
    setup = setup_of("gemma2", pruner={"use": "obs", "calibration": [TEXT], "compensate": compensate})
    assert setup.calibration is not None
    assert setup.calibration.shape == (4, 33)
    assert (setup.calibration[:, 0] == BEGIN).all()
    first, second = setup.compensation
    assert first.equal(setup.calibration)
    assert second.shape == (4, 32)
    assert not (second == BEGIN).any()
    assert build_elastic(setup, Progress(quiet=True)).compensation is not None


def test_texts_of_one_pruner_all_begin_with_the_token_or_none_does(setup_of: MakeSetup) -> None:
    mixed = {"use": "obs", "calibration": [TEXT, TEXT | {"bos": "never"}]}
    with pytest.raises(DataError, match=r"^pruner\.calibration: only some texts begin with .* give all the same bos"):
        setup_of("gemma2", pruner=mixed).check()
    setup_of("llama", pruner=mixed).check()


@pytest.mark.parametrize(
    ("changes", "section"),
    [
        ({"evaluators": [PERPLEXITY | {"context": 128}]}, "perplexity on validation.txt, split validation"),
        ({"pruner": {"use": "flap", "calibration": TEXT | {"tokens": 128}}}, "pruner.calibration"),
        ({"recover": DISTILL | {"tokens": 128}}, "recover"),
    ],
    ids=["evaluator", "pruner", "recovery"],
)
def test_windows_of_the_whole_context_have_no_room_for_the_token(
    changes: dict[str, Any], section: str, setup_of: MakeSetup
) -> None:
    setup_of("llama", **changes).check()
    with pytest.raises(DataError, match=rf"^{section}.* beginning-of-sequence token are longer .* to 127 or less"):
        setup_of("gemma2", **changes).check()


@pytest.mark.parametrize("options", [DISTILL, LORA], ids=["distill", "lora"])
def test_a_recovery_without_the_token_it_needs_is_refused_before_anything_is_measured(
    options: dict[str, Any], setup_of: MakeSetup
) -> None:
    never = {
        "evaluators": [PERPLEXITY | {"bos": "never"}],
        "pruner": {"use": "taylor", "calibration": TEXT | {"bos": "never"}},
    }
    folder = setup_of("gemma2", **never).source.path
    for file in folder.glob("tokenizer*"):
        file.write_text(file.read_text().replace('"bos_token": "<s>",', ""))
    setup_of("gemma2", **never).check()
    with pytest.raises(DataError, match=r"^recover: gemma2 models need .* set bos: never"):
        setup_of("gemma2", **never, recover=options).check()
