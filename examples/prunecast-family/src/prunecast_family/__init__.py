"""The family twin for prunecast: its description, and its classes for transformers."""

from prunecast.plugins import Entry, hookimpl


@hookimpl
def prunecast_families() -> list[Entry]:
    """Entry of the description, a file beside the module that registers the classes."""
    return [Entry("twin", "prunecast_family.auto:twin.yaml", "Decoders whose attention and MLP read the same norm")]
