"""Recorded specs are data: none executes code that the user does not name again."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunecast.errors import RegistryError
from prunecast.measure.recorded import Permissions
from prunecast.measure.setup import spec_of
from prunecast.plugins.host import PluginHost
from prunecast.registry.records import RunRecord
from prunecast.spec.load import parse_spec

SPEC = """
model: {source: org/name}
space: layerwise
pruner: magnitude
evaluators: [{use: perplexity, dataset: wikitext2, split: validation}]
predictor: gbdt
searcher: tpe
"""

PLUGIN = """
from pathlib import Path
from prunecast.plugins import Entry, hookimpl
from prunecast_plugins.pruners.magnitude import Magnitude

Path(__file__).with_suffix(".ran").touch()


class Mine(Magnitude):
    pass


@hookimpl
def prunecast_pruners():
    return [Entry("mine", f"{__name__}:Mine", "magnitude again")]
"""

FOREST = "sklearn.ensemble.ExtraTreesRegressor"
KERNEL = {
    "use": "sklearn",
    "estimator": "sklearn.gaussian_process.GaussianProcessRegressor",
    "kernel": {"class": "sklearn.gaussian_process.kernels.Matern", "nu": 1.5},
}


def recorded(spec_json: object) -> RunRecord:
    text = spec_json if isinstance(spec_json, str) else json.dumps(spec_json)
    return RunRecord(3, "c" * 32, "theirs", "finished", "", "", text, "", None, "")


def spec(**changes: Any) -> dict[str, Any]:
    """The resolved content of ``SPEC`` with some keys replaced."""
    content: dict[str, Any] = json.loads(parse_spec(SPEC, PluginHost.discover()).to_json())
    return {**content, **changes}


def trusting(**model: Any) -> dict[str, Any]:
    return spec(model={**spec()["model"], "trust_remote_code": True, **model})


@pytest.mark.parametrize(
    ("content", "code", "options"),
    [
        (trusting(), Permissions(remote_code=True), ["--trust-remote-code"]),
        (
            spec(searcher={"use": "optuna", "sampler": "samplers/auto_sampler", "trust_remote_code": True}),
            None,
            ["--trust-remote-code"],
        ),
        (
            spec(predictor={"use": "sklearn", "estimator": FOREST}),
            Permissions(code=frozenset({FOREST})),
            [f"--allow-code {FOREST}"],
        ),
        (
            spec(predictor=KERNEL),
            Permissions(code=frozenset({str(KERNEL["estimator"]), "sklearn.gaussian_process.kernels.Matern"})),
            ["GaussianProcessRegressor", "--allow-code sklearn.gaussian_process.kernels.Matern"],
        ),
        (
            spec(searcher={"use": "optuna", "sampler": "optuna.samplers.RandomSampler"}),
            Permissions(code=frozenset({"optuna.samplers.RandomSampler"})),
            ["--allow-code optuna.samplers.RandomSampler"],
        ),
        (
            spec(verify={"top": 1, "evaluators": [{"use": "lm_eval", "tasks": ["x"], "definitions": "tasks/own"}]}),
            Permissions(code=frozenset({"tasks/own"})),
            ["--allow-code tasks/own"],
        ),
        (
            {**trusting(), "predictor": KERNEL},
            None,
            ["--trust-remote-code", "--allow-code sklearn.gaussian_process.kernels.Matern"],
        ),
    ],
)
def test_code_is_refused_with_the_option_that_permits_it(
    content: dict[str, Any], code: Permissions | None, options: list[str]
) -> None:
    host = PluginHost.discover()
    with pytest.raises(RegistryError) as refused:
        spec_of(recorded(content), host)
    assert all(option in str(refused.value) for option in options), str(refused.value)
    assert str(refused.value).startswith("run 3 (theirs): its recorded spec names code")
    if code is not None:
        assert json.loads(spec_of(recorded(content), host, code).to_json())["predictor"]["use"] in ("gbdt", "sklearn")


def test_one_permission_is_not_another() -> None:
    host = PluginHost.discover()
    both = {**trusting(), "predictor": {"use": "sklearn", "estimator": FOREST}}
    with pytest.raises(RegistryError, match=r"names code.*--allow-code") as refused:
        spec_of(recorded(both), host, Permissions(remote_code=True))
    assert "--trust-remote-code" not in str(refused.value)
    with pytest.raises(RegistryError, match="--trust-remote-code"):
        spec_of(recorded(both), host, Permissions(code=frozenset({FOREST})))


def test_a_recorded_local_plugin_is_imported_only_from_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PLUGIN)
    content = spec(pruner={"use": "mine"}, plugins=["mine.py"])
    with pytest.raises(RegistryError, match=r"pruner 'mine' of the local plugins \['mine.py'\] \(--plugin-dir PATH\)"):
        spec_of(recorded(content), PluginHost.discover())
    # Not even a plugin that nothing uses is imported.
    assert spec_of(recorded(spec(plugins=["mine.py"])), PluginHost.discover()).pruner.use == "magnitude"
    assert not (tmp_path / "mine.ran").exists()
    assert spec_of(recorded(content), PluginHost.discover([tmp_path / "mine.py"])).pruner.use == "mine"
    assert (tmp_path / "mine.ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "not of the form that prunecast writes"),
        ("7", "not of the form that prunecast writes"),
        ("[" * 5000, "not of the form that prunecast writes"),
        ({"model": {"source": "x"}}, "not valid here: .*space: Field required"),
        (spec(evaluators=5), "not valid here: .*evaluators"),
        (spec(verify=[1]), "not valid here: .*verify"),
        (spec(predictor={"use": ["gbdt"]}), "not valid here: .*predictor"),
        (spec(pruner={"use": "gone"}), "not valid here: .*no pruner is called 'gone'"),
    ],
)
def test_a_recorded_spec_that_is_not_valid_is_one_line(content: object, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as refused:
        spec_of(recorded(content), PluginHost.discover())
    assert "\n" not in str(refused.value)


def test_a_spec_of_the_user_permits_what_it_names() -> None:
    named = parse_spec(SPEC.replace("predictor: gbdt", f"predictor: {{use: sklearn, estimator: {FOREST}}}"), host())
    assert Permissions.of(named) == Permissions(False, frozenset({FOREST}))
    trusted = parse_spec(SPEC.replace("org/name", "org/name, trust_remote_code: true"), host())
    assert Permissions.of(trusted) == Permissions(True, frozenset())


def host() -> PluginHost:
    return PluginHost.discover()
