"""What a report says in a few sentences, for a terminal."""

from prunecast.registry import Registry, RunRecord
from prunecast.registry.records import reading_result
from prunecast.report.comparison import against_baselines
from prunecast.report.facts import Compared
from prunecast.report.importance import layers_that_matter


def summary(registry: Registry, record: RunRecord) -> dict[str, str]:
    """Sentences on a finished run by their topics, ``baselines`` and ``layers``; topics without any are left out.

    Args:
        registry: the registry of the run.
        record: the run.

    Raises:
        RegistryError: the run has no result of the form that prunecast writes.
    """
    with reading_result(record):
        run = Compared(registry, record)
        told = {"baselines": against_baselines(run), "layers": layers_that_matter(run)}
    return {topic: sentence for topic, sentence in told.items() if sentence}
