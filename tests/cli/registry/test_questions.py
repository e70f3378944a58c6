"""Questions to the registry that comes with the repository, by its commands."""

from click.testing import CliRunner
from places import SHIPPED_REGISTRY

from prunecast.cli.main import cli


def test_best_says_that_its_rows_are_of_several_evaluators() -> None:
    """Whatever the limit: the best rows may all be of the one whose numbers are smallest."""
    metric = "wikitext2.validation.ppl"
    ask = (
        "registry",
        "best",
        metric,
        "--budget",
        "parameters=0.8",
        "--limit",
        "1",
        "--registry",
        str(SHIPPED_REGISTRY),
    )
    told = CliRunner().invoke(cli, ask).stderr
    assert (
        "the rows that match are of 4 evaluators, whose numbers are not comparable: perplexity dataset=wikitext2"
        in told
    )
    condition = f"\"{metric}.evaluator\" LIKE '%tokens=4096'"
    for alone in (("--where", condition), ("--run", "3")):
        assert "evaluators" not in CliRunner().invoke(cli, [*ask, *alone]).stderr
