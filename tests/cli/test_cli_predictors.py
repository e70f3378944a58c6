"""``prunecast predictors card`` on the registry that the repository ships."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from prunecast.cli.main import cli

SHIPPED = str(Path(__file__).parents[2] / "registry.db")
METRIC = "wikitext2.validation.ppl"


def card(*arguments: str) -> Result:
    fixed = ("predictors", "card", "--registry", SHIPPED, "--metric", METRIC)
    return CliRunner().invoke(cli, (*fixed, *arguments), standalone_mode=False)


@pytest.mark.slow
def test_predictors_are_judged_side_by_side_on_the_same_pairs_and_the_process_is_as_good_as_it_says() -> None:
    done = card("--predictor", "gp", "--json")
    assert (done.return_value, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)
    assert found["predictor"] == "gp"
    assert found["objective"]["r2"] > 0.85
    assert found["objective"]["kendall_tau"] > 0.8
    assert found["learning_curve"][-1]["pairs"] == found["pairs"] - found["held_out"]


def test_an_option_that_the_predictor_does_not_have_is_one_line() -> None:
    done = card("--predictor", "gp", "--set", "tress=3")
    assert done.return_value == 1
    assert done.stderr.startswith("--set: gp: ")
    assert done.stderr.count("\n") == 1
