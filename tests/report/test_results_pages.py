"""The tables of docs/results are those of the runs in registry.db."""

from pathlib import Path
from typing import Any

import pytest
import results_pages
from places import REPOSITORY

from prunecast.registry import Registry

PAGE = """Before.

<!-- scores
metrics: {wikitext2.test.ppl: WikiText-2 test}
rows:
  - {kept: 80 %, run: 83, show: [dense, uniform-mlp, best: found by us]}
-->
stale
<!-- end -->

After.
"""


@pytest.mark.parametrize("page", results_pages.PAGES, ids=lambda page: page.name)
def test_a_page_has_the_numbers_of_its_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    with Registry.open(REPOSITORY / "registry.db", readonly=True) as registry:
        filled = results_pages.filled(text, results_pages.results(registry))
    assert text == filled, f"{page.relative_to(REPOSITORY)} is stale: run `make results`"


def test_every_picture_is_drawn_and_shown() -> None:
    drawn = {f"{name}.png" for name in results_pages.PICTURES}
    pages = "".join(page.read_text(encoding="utf-8") for page in results_pages.PAGES)
    assert {each.name for each in (REPOSITORY / "docs" / "images").iterdir()} == drawn
    assert [name for name in drawn if f"images/{name})" not in pages] == []


def test_a_table_is_replaced_and_the_best_pruned_model_bold() -> None:
    def result(run: int) -> dict[str, Any]:
        def candidate(name: str, value: float) -> dict[str, Any]:
            return {"name": name, "metrics": {"wikitext2.test.ppl": value}}

        others = [candidate("uniform", 60.0), candidate("uniform-mlp", 50.0)]
        return {"dense": candidate("dense", 1_020.0), "baselines": others, "best": candidate("best", run / 2)}

    table = results_pages.filled(PAGE, result).split("-->\n")[1].removesuffix("<!-- end ")
    assert table == (
        "\n| kept | | WikiText-2 test | the run |\n| --- | --- | ---: | --- |\n"
        "| 80 % | dense | 1,020.00 | `prunecast runs show 83` |\n"
        "| | uniform MLP pruning | 50.00 | the same |\n"
        "| | found by us | **41.50** | the same |\n\n"
    )
