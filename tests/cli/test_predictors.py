"""``prunecast predictors card`` on the registry that the repository ships."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from places import SHIPPED_REGISTRY

from prunecast.cli.main import cli
from prunecast_plugins.predictors.gp import GP

METRIC = "wikitext2.validation.ppl"


def card(*arguments: str) -> Result:
    fixed = ("predictors", "card", "--registry", str(SHIPPED_REGISTRY), "--metric", METRIC)
    return CliRunner().invoke(cli, (*fixed, *arguments), standalone_mode=False)


@pytest.mark.slow
def test_the_card_of_the_gaussian_process_has_good_scores() -> None:
    done = card("--predictor", "gp", "--json")
    assert done.return_value == 0
    assert done.stderr.startswith(f"pairs of smollm2-135m with {METRIC}: --model and --metric choose others")
    assert done.stderr.count("\n") == 1
    (found,) = json.loads(done.stdout)
    assert found["predictor"] == "gp"
    assert found["objective"]["r2"] > 0.85
    assert found["objective"]["kendall_tau"] > 0.8
    assert found["learning_curve"][-1]["pairs"] == found["pairs"] - found["held_out"]


def test_an_unknown_predictor_option_is_a_one_line_error() -> None:
    done = card("--predictor", "gp", "--set", "tress=3")
    assert done.return_value == 1
    assert done.stderr.startswith("--set: gp: ")
    assert done.stderr.count("\n") == 1


def test_an_error_in_a_predictor_names_its_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GP, "fit", lambda *arguments: 1 / 0)
    done = card("--predictor", "gp")
    assert done.return_value == 1
    assert done.stderr.startswith("error: predictor 'gp' of prunecast ")
    assert done.stderr.endswith(" failed in fit: ZeroDivisionError: division by zero\n")


def test_a_card_is_of_the_metric_with_most_architectures_by_default(filled: Path) -> None:
    done = CliRunner().invoke(cli, ("predictors", "card"), standalone_mode=False)
    assert done.stderr.startswith("error: 3 pairs of smollm2-135m, taylor, bfloat16: too few to hold any out")
    unknown = CliRunner().invoke(cli, ("predictors", "card", "--metric", "none"), standalone_mode=False)
    assert (
        unknown.stderr == "error: registry.db: holds no pairs of none; prunecast registry metrics lists what there is\n"
    )


@pytest.mark.parametrize(
    "command",
    [("predict", "3x3+1536*30"), ("registry", "transfer", "out/small-llama", "smollm2-135m", "--metric", METRIC)],
)
def test_a_predictor_without_defaults_is_refused_in_one_line(command: tuple[str, ...]) -> None:
    arguments = (*command, "--registry", str(SHIPPED_REGISTRY), "--predictor", "sklearn")
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert (done.return_value, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "has an option without a default: take another predictor" in done.stderr
