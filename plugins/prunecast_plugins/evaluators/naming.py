"""Names of metrics."""

from prunecast.plugins import dataset_label


def metric_name(dataset: str, split: str, metric: str) -> str:
    """``DATASET.SPLIT.METRIC``. A local file is named by its stem: ``texts/notes.txt`` is ``notes``."""
    return f"{dataset_label(dataset)}.{split}.{metric}"
