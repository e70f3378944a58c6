"""The tokenizer in a GGUF file: copied from another one, or written from the files of a known kind of tokenizer."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prunecast.errors import ExportError
from prunecast.export.gguf.pre_tokenizers import KNOWN, PROBE, recognised
from prunecast.models.gguf_files import open_gguf
from prunecast.models.source import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of tokens (``tokenizer.ggml.token_type``)."""

SPACE = "▁"
"""Character that stands for a space in the tokens of SentencePiece."""

UNRANKED = -1000.0
"""Score of a token that no merge makes, below those of all others of vocabularies up to a million tokens' ranks."""

_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"


def tokenizer_fields(source: ModelSource) -> dict[str, Any]:
    """Fields ``tokenizer.*`` of a model; those of a ``.gguf`` file are copied.

    Raises:
        ExportError: llama.cpp knows no such tokenizer.
    """
    return _copied(source) if source.kind == "gguf" else written_fields(source.tokenizer(), source.name)


def padded(fields: dict[str, Any], embeddings: int, name: str) -> dict[str, Any]:
    """Fields of a tokenizer with a token for each embedding; those without one get an unused token.

    Args:
        fields: the fields.
        embeddings: number of embeddings.
        name: name of the model, for messages.

    Raises:
        ExportError: there are more tokens than embeddings.
    """
    missing = embeddings - len(fields[_TOKENS])
    if missing < 0:
        raise ExportError(
            f"the tokenizer of {name} has {-missing:,} tokens more than the model embeddings: use the one it was "
            "trained with"
        )
    unused: list[Any] = [f"[PAD{number}]" for number in range(embeddings - missing, embeddings)]
    scores = "tokenizer.ggml.scores"
    more: dict[str, list[Any]] = {_TOKENS: unused, _TYPES: [UNUSED] * missing, scores: [UNRANKED] * missing}
    return fields | {key: [*fields[key], *values] for key, values in more.items() if key in fields}


def _copied(source: ModelSource) -> dict[str, Any]:
    fields = open_gguf(source.path).fields
    return {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}


def written_fields(tokenizer: "PreTrainedTokenizerBase", name: str) -> dict[str, Any]:
    """Fields ``tokenizer.*`` of a tokenizer of transformers.

    llama.cpp does not normalise text; most text is in the normal form (NFC) already.

    Args:
        tokenizer: the tokenizer.
        name: name of its model, for messages.

    Raises:
        ExportError: llama.cpp knows no such tokenizer.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    content = json.loads(backend.to_str()) if backend is not None else {"model": {}}
    model = content["model"]
    if model.get("type") != "BPE":
        raise _unknown(name, f"its model is {model.get('type') or 'no file of the tokenizers library'}, not BPE")
    if model.get("byte_fallback"):
        fields = _sentencepiece(backend, content, name)
    else:
        fields = _byte_level(backend, content, name)
    return fields | _special(tokenizer)


def _byte_level(backend: Any, content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Fields of a tokenizer of bytes, as GPT-2's."""
    if (content["normalizer"] or {"type": "NFC"})["type"] != "NFC":
        raise _unknown(name, f"it changes texts by {content['normalizer']['type']}")
    known = None
    if backend.pre_tokenizer is not None:
        known = recognised(backend.pre_tokenizer, bool(content["model"].get("ignore_merges")))
    if known is None:
        raise _unknown(name, f"it splits texts like none of {', '.join(each.name for each in KNOWN)}")
    merges = [" ".join(pair) for pair in _merges(content)]
    if not merges:
        raise _unknown(name, "it has no merges, and llama.cpp loads none without")
    tokens, types = _vocabulary(content)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": known.name,
        _TOKENS: tokens,
        _TYPES: types,
        "tokenizer.ggml.merges": merges,
    }


def _sentencepiece(backend: Any, content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Fields of a tokenizer of SentencePiece, whose merges are ranked by the scores of the tokens they make."""
    normal = PROBE if backend.normalizer is None else backend.normalizer.normalize_str(PROBE)
    splits = [(normal, None)] if backend.pre_tokenizer is None else backend.pre_tokenizer.pre_tokenize_str(normal)
    (whole,) = [piece for piece, _ in splits] if len(splits) == 1 else ("",)
    expected = PROBE.replace(" ", SPACE)
    if whole not in (expected, SPACE + expected):
        raise _unknown(name, "it falls back to bytes and splits or changes texts otherwise than SentencePiece")
    tokens, types = _vocabulary(content)
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(_merges(content)):
        ranks.setdefault("".join(pair), rank)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": whole != expected,
        _TOKENS: tokens,
        "tokenizer.ggml.scores": [float(-ranks[token]) if token in ranks else UNRANKED for token in tokens],
        _TYPES: [_kind(token, kind, content) for token, kind in zip(tokens, types, strict=True)],
    }


def _kind(token: str, kind: int, content: Mapping[str, Any]) -> int:
    """Kind of a token of SentencePiece; ``kind`` is its kind by the vocabulary alone."""
    if token == content["model"].get("unk_token"):
        return UNKNOWN
    is_byte = len(token) == len("<0x00>") and token.startswith("<0x") and token.endswith(">")
    return BYTE if is_byte and kind == NORMAL else kind


def _vocabulary(content: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """All tokens by their id, and their kinds; ids without a token get an unused one."""
    found = {number: (token, NORMAL) for token, number in content["model"]["vocab"].items()}
    for added in content["added_tokens"]:
        kind = CONTROL if added["special"] else USER_DEFINED
        text = added["content"] if kind == CONTROL else added["content"].replace(SPACE, " ")
        found[added["id"]] = (text, kind)
    tokens = [found.get(number, (f"[PAD{number}]", UNUSED)) for number in range(max(found) + 1)]
    return [token for token, _ in tokens], [kind for _, kind in tokens]


def _merges(content: Mapping[str, Any]) -> list[Sequence[str]]:
    """Pairs of tokens that are merged, first to last. A space in a token is written in the alphabet of bytes."""
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in content["model"]["merges"]]


def _special(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """Fields of special tokens, whether they are added, and the chat template."""
    untyped: Any = tokenizer
    roles = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
    numbers = {field: getattr(untyped, f"{role}_token_id") for field, role in roles.items()}
    fields: dict[str, Any] = {
        f"tokenizer.ggml.{field}_token_id": number for field, number in numbers.items() if number is not None
    }
    plain, framed = (untyped("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    fields["tokenizer.ggml.add_bos_token"] = framed[: len(framed) - len(plain)][:1] == [numbers["bos"]]
    fields["tokenizer.ggml.add_eos_token"] = framed[-1] == numbers["eos"] and framed[-1] != plain[-1]
    template = untyped.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    return fields | ({"tokenizer.chat_template": template} if template else {})


def _unknown(name: str, reason: str) -> ExportError:
    return ExportError(
        f"the tokenizer of {name} cannot be written as GGUF ({reason}): start from a .gguf file of the model, whose "
        "tokenizer is copied"
    )
