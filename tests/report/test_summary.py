"""What a report says in a few sentences."""

from pathlib import Path

from prunecast.registry import Registry
from prunecast.report.summary import summary


def test_a_summary_says_where_found_is_worse_and_names_layers(run_again: Path) -> None:
    with Registry.open(run_again, readonly=True) as registry:
        told = summary(registry, registry.run(1))
        worse, alone = (summary(registry, registry.run(number)) for number in (4, 2))
    assert told["baselines"] == (
        "Compared with the best baseline of the same size, the best architecture found is 0.8 % better on "
        "python-docs.test.ppl."
    )
    assert "is 13.3 % worse on python-docs.test.ppl" in worse["baselines"]
    assert alone == {"baselines": "The run has no baseline with this parameter count."}
    assert told["layers"].startswith("The layers that matter most, by their share of the predictor's importances, are ")
