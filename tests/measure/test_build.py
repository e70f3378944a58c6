"""Calibration: number of tokens read, and reuse of rankings and moments on disk."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from workplace import Workplace

from prunecast.cache import cache_dir
from prunecast.errors import ModelError
from prunecast.measure.build import build_elastic
from prunecast.measure.setup import Setup
from prunecast.models.families.head import head_of
from prunecast.models.moments import Moments
from prunecast.models.source import ModelSource
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.spec.load import load_spec

TEXT = {"dataset": "calibration.txt", "samples": 4, "tokens": 32}
OTHER = TEXT | {"seed": 1}
TOKENS = 4 * 32
WEIGHTS_ONLY = {"use": "magnitude", "compensate": {"method": "least-squares", "calibration": [OTHER]}}

Read = Callable[[dict[str, Any]], int]


@pytest.fixture
def read(workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Read:
    """Function that builds the elastic model of a pruner and returns the number of tokens read by the model."""
    counted: list[int] = []
    load = ModelSource.load

    def counting(source: ModelSource, *arguments: Any, **options: Any) -> Any:
        model = load(source, *arguments, **options)
        head_of(model)  # found once for every model, with a few tokens
        decoder = model.base_model.layers[0]
        decoder.register_forward_pre_hook(lambda module, given: counted.append(given[0].shape[:-1].numel()))
        return model

    monkeypatch.setattr(ModelSource, "load", counting)
    monkeypatch.setenv("PRUNECAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(workplace.folder)

    def build(pruner: dict[str, Any]) -> int:
        counted.clear()
        workplace.write_spec("calibrated", {"pruner": pruner})
        host = PluginHost.discover()
        build_elastic(Setup(load_spec("calibrated.yaml", host), host), Progress(quiet=True))
        return sum(counted)

    return build


def pruner(use: str, calibration: Any, compensation: list[dict[str, Any]]) -> dict[str, Any]:
    compensate = {"method": "least-squares", "calibration": compensation}
    return {"use": use, "calibration": calibration, "compensate": compensate}


@pytest.mark.parametrize(("use", "calibration"), [("obs", [TEXT, OTHER]), ("taylor", TEXT), ("activation", TEXT)])
def test_one_pass_over_the_text_serves_ranking_and_compensation(read: Read, use: str, calibration: Any) -> None:
    texts = calibration if isinstance(calibration, list) else [calibration]
    assert read(pruner(use, calibration, texts)) == TOKENS * len(texts)
    (path,) = (cache_dir() / "moments").iterdir()
    overheard = load_file(path)
    path.unlink()
    assert read(pruner(use, calibration, texts)) == TOKENS * len(texts)
    gathered = load_file(path)
    assert overheard.keys() == gathered.keys()
    for name, moment in gathered.items():
        torch.testing.assert_close(overheard[name], moment, rtol=1e-4, atol=1e-5)


def test_cached_rankings_and_moments_are_reused(read: Read) -> None:
    assert read(pruner("taylor", TEXT, [OTHER])) == 2 * TOKENS
    assert read(pruner("taylor", TEXT, [OTHER])) == 0
    assert read(pruner("activation", TEXT, [OTHER])) == TOKENS
    assert read(WEIGHTS_ONLY) == 0


def test_out_of_memory_while_gathering_moments_is_a_one_line_error(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    load = ModelSource.load

    def greedy(source: ModelSource, *arguments: Any, **options: Any) -> Any:
        model = load(source, *arguments, **options)
        head_of(model)
        model.base_model.layers[0].register_forward_pre_hook(lambda *_: torch.empty(2**60, dtype=torch.int8) and None)
        return model

    monkeypatch.setattr(ModelSource, "load", greedy)
    with pytest.raises(ModelError, match=r"^pruner\.compensate: out of memory on cpu .* or compensate to none$"):
        read(WEIGHTS_ONLY)
    assert list((cache_dir() / "moments").iterdir()) == []


def test_damaged_moments_error_says_to_delete_the_file(read: Read) -> None:
    read(WEIGHTS_ONLY)
    (path,) = (cache_dir() / "moments").iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-100]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=rf"^{path}: .* cannot be read \(.*\); delete the file") as caught:
            Moments(path).second(0, "mlp")
        assert "\n" not in str(caught.value)


def test_damaged_ranking_error_says_to_delete_the_file(read: Read) -> None:
    read({"use": "magnitude"})
    (path,) = (cache_dir() / "rankings").glob("*.npz")
    whole = path.read_bytes()
    for damaged in (b"", bytes(len(whole)), whole[:100], whole[:-100], whole[:60] + bytes(40) + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=rf"^{path}: .* cannot be read \(.*\); delete the file") as caught:
            read({"use": "magnitude"})
        assert "\n" not in str(caught.value)
    path.unlink()
    read({"use": "magnitude"})
    assert path.read_bytes() == whole


COMPENSATE = {"method": "least-squares", "calibration": [TEXT]}


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("pruner.calibration.samples", "0", "must be at least 1, got 0"),
        ("pruner.calibration.tokens", "1", "must be at least 2, got 1"),
        ("pruner.calibration.seed", "-1", "must be at least 0, got -1"),
        ("pruner.compensate.calibration", "[]", "needs at least 1 item(s), has 0"),
        ("pruner.compensate.calibration.0.samples", "-3", "must be at least 1, got -3"),
    ],
)
def test_empty_calibration_is_an_error_that_names_the_key(
    place: str, value: str, problem: str, workplace: Workplace
) -> None:
    workplace.write_spec("wrong", {"pruner": {"use": "taylor", "calibration": TEXT, "compensate": COMPENSATE}})
    outcome = workplace.prunecast("spec", "validate", "wrong.yaml", "--set", f"{place}={value}")
    assert outcome.code == 1
    assert f"{place}: {problem}" in outcome.stderr


@pytest.mark.parametrize(
    "wanted", ["pruner.calibration.tokens", "pruner.compensate.calibration.0.tokens", "recover.tokens"]
)
def test_text_longer_than_the_context_is_an_error_before_measuring(wanted: str, workplace: Workplace) -> None:
    recover = {"method": "distill", "dataset": "calibration.txt", "samples": 4, "tokens": 64}
    pruner = {"use": "taylor", "calibration": TEXT, "compensate": COMPENSATE}
    workplace.write_spec("long", {"pruner": pruner, "recover": recover})
    fits = workplace.prunecast("run", "long.yaml", "--dry-run", "--set", f"{wanted}=128")
    assert fits.code == 0, fits.stderr
    outcome = workplace.prunecast("run", "long.yaml", "--set", f"{wanted}=129")
    assert outcome.code == 1
    assert outcome.stderr.endswith("tokens 129 is longer than the model's context, set it to 128 or less\n")
    section = wanted.removesuffix(".tokens").removesuffix(".0")
    assert outcome.stderr.startswith(f"error: {section}: data set calibration.txt, split calibration: ")
