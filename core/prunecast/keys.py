"""Content keys: the same thing has the same key in every process, on every machine, in every registry."""

import hashlib
import json


def canonical_json(value: object) -> str:
    """The one JSON text of ``value``: sorted keys, no spaces, characters as they are.

    Args:
        value: anything JSON can hold: None, bool, int, finite float, str, and lists and string-keyed dicts of those.

    Raises:
        TypeError: something JSON cannot hold, such as a tensor or a set.
        ValueError: a NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_key(value: object) -> str:
    """Content key of ``value``: 32 hexadecimal digits, the BLAKE2b-16 of its :func:`canonical_json` (same errors).

    Integers and floats differ (``1`` is not ``1.0``), as do None and an absent entry.
    """
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=16).hexdigest()
