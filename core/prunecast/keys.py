"""Content keys: hashes of JSON values, the same in every process, on every machine and in every registry."""

import hashlib
import json


def canonical_json(value: object) -> str:
    """Canonical JSON of ``value``: sorted keys, no spaces, non-ASCII characters unescaped.

    Args:
        value: a JSON value: None, bool, int, finite float, str, and lists and string-keyed dicts of those.

    Raises:
        TypeError: the value contains a type that JSON does not have, such as a tensor or a set.
        ValueError: the value contains a NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_key(value: object) -> str:
    """Content key of ``value``: 32 hexadecimal digits, the BLAKE2b-16 of its :func:`canonical_json` (same errors).

    An integer and the equal float have different keys (``1`` and ``1.0``), and so do None and an absent entry.
    """
    return hashlib.blake2b(canonical_json(value).encode(), digest_size=16).hexdigest()
