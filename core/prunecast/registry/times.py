"""Times as the registry writes them: ISO 8601, UTC, whole seconds; as text they sort by time."""

from datetime import UTC, datetime, timedelta


def utc_text(seconds_from_now: float = 0.0) -> str:
    """``2025-01-31T12:00:00Z``."""
    return (datetime.now(UTC) + timedelta(seconds=seconds_from_now)).strftime("%Y-%m-%dT%H:%M:%SZ")
