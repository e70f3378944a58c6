"""Names of metrics."""

import re

_LOCAL_FILE = re.compile(r"(?:.*[/\\])?(?P<stem>[^/\\]+?)\.(?:txt|md|jsonl|jsonl\.gz)(?:#.*)?")


def metric_name(dataset: str, split: str, metric: str) -> str:
    """``DATASET.SPLIT.METRIC``. A local file is named by its stem: ``texts/notes.txt`` is ``notes``."""
    file = _LOCAL_FILE.fullmatch(dataset)
    return f"{file['stem'] if file else dataset}.{split}.{metric}"
