"""The page of models: it tells of the installed transformers what detection says of it today."""

import re

import pytest
import transformers
from places import REPOSITORY

from prunecast.export.proof.survey import survey
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost

PAGE = (REPOSITORY / "docs" / "reference" / "models.md").read_text(encoding="utf-8")

TYPES = dict(re.findall(r"^\| `([\w.-]+)` \| \w+ \| (described|detected) \| proven \|", PAGE, flags=re.MULTILINE))


def test_every_described_family_and_more_than_fifty_types_are_proven() -> None:
    assert set(families_of(PluginHost.discover())) <= set(TYPES)
    assert len(TYPES) > 50


@pytest.mark.slow
@pytest.mark.skipif(f"transformers {transformers.__version__}," not in PAGE, reason="the page is of another version")
def test_the_page_is_current() -> None:
    found = survey(PluginHost.discover(), prove=False)
    assert {each.type: each.state for each in found if each.state != "refused"} == TYPES, "stale: run `make docs`"
