"""llama.cpp on a GGUF file. Run as a script, in a process that cannot import prunecast.

Usage: ``python engine.py FILE REQUEST``, where REQUEST is a JSON file with the fields of :class:`Request`. Prints one
JSON object: the fields of :class:`Reply`. The numbers in the cache of keys and values are float32.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xllamacpp as engine


@dataclass(frozen=True)
class Request:
    """A request to the engine.

    Attributes:
        windows: texts, each token ids of shape (T,); the probabilities of all tokens of each but its first are wanted.
        detailed: number of positions of the first window at which the most probable tokens are wanted, too.
        top: number of these tokens.
        continued: a text; for each token after the first ``given`` ones the most probable token there is wanted.
        given: number of its tokens.
        text: text to tokenize, without special tokens.
        context: number of tokens that the engine makes room for.
        threads: number of threads.
    """

    windows: list[list[int]]
    detailed: int
    top: int
    continued: list[int]
    given: int
    text: str
    context: int
    threads: int


@dataclass(frozen=True)
class Reply:
    """Results of the engine. None stands for what it does not report: tokens that end in the middle of a character, and
    tokens without a text, which it cannot be made to choose.

    Attributes:
        log_probabilities: natural logarithm of the probability of every token of every window but its first.
        most_probable: for each detailed position, ids and log-probabilities of the most probable tokens.
        preferred: the most probable token in place of each of the continued text.
        tokens: the text as token ids.
        load_seconds: time to load the file.
        prefill, decode: tokens a second when reading the first window, and when generating.
    """

    log_probabilities: list[list[float | None]]
    most_probable: list[list[tuple[int, float]] | None]
    preferred: list[int | None]
    tokens: list[int]
    load_seconds: float
    prefill: float
    decode: float


def main(file: str, request_file: str) -> Reply:
    """Load a file and answer a request."""
    request = Request(**json.loads(Path(request_file).read_text(encoding="utf-8")))
    start = time.perf_counter()
    server = engine.Server(_parameters(file, request))
    load_seconds = time.perf_counter() - start
    first = request.windows[0]
    detailed = _forced(server, first[: request.detailed + 1], 1, request.top)
    windows = [_forced(server, window, 1, 1) for window in request.windows]
    continued = _forced(server, request.continued, request.given, 1)
    timed = _completion(server, first, 1, cache_prompt=False)["timings"]
    generated = _completion(server, first[:1], len(first) - 1, ignore_eos=True)["timings"]
    return Reply(
        log_probabilities=[[entry and entry["logprob"] for entry in window] for window in windows],
        most_probable=[
            entry and [(each["id"], each["logprob"]) for each in entry["top_logprobs"]] for entry in detailed
        ],
        preferred=[entry and entry["top_logprobs"][0]["id"] for entry in continued],
        tokens=_tokenized(server, request.text),
        load_seconds=load_seconds,
        prefill=timed["prompt_per_second"],
        decode=generated["predicted_per_second"],
    )


def _parameters(file: str, request: Request) -> Any:
    parameters = engine.CommonParams()
    parameters.model.path = file
    parameters.n_ctx = request.context
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = request.threads
    parameters.cache_type_k = parameters.cache_type_v = engine.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = engine.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.fit_params = False
    parameters.verbosity = 1  # errors only
    return parameters


def _completion(server: Any, prompt: Sequence[int], count: int, top: int = 1, **settings: Any) -> Any:
    """Continuation of a prompt by ``count`` tokens, the most probable ones unless ``settings`` say otherwise.

    Raises:
        Refused: the engine reports an error.
    """
    request = {"prompt": prompt, "n_predict": count, "n_probs": top, "temperature": 0, **settings}
    reply = server.handle_completions(request)
    if "choices" not in reply:
        raise Refused(json.dumps(reply))
    return reply


class Refused(Exception):
    """The engine reports an error."""


def _forced(server: Any, tokens: list[int], given: int, top: int) -> list[Any]:
    """The engine's entry for every token after the first ``given`` ones, forced by a grammar that allows it alone.

    The engine reports the probability that a token had before the grammar was applied. It stops at tokens that end a
    text, and is asked again for the rest. No grammar allows a token without a text; the request is then halved until
    it holds this token alone, which gets None.
    """
    found: list[Any] = []
    size = len(tokens)
    while given + len(found) < len(tokens):
        wanted = tokens[given + len(found) :][:size]
        grammar = "root ::= " + " ".join(f"<[{token}]>" for token in wanted)
        try:
            reply = _completion(server, tokens[: given + len(found)], len(wanted), top, grammar=grammar)
        except Refused:
            found += [None] if len(wanted) == 1 else []
            size = len(tokens) if len(wanted) == 1 else len(wanted) // 2
            continue
        count = reply["usage"]["completion_tokens"]
        reported = reply["choices"][0]["logprobs"] or {"content": []}
        found += aligned(reported["content"], wanted[:count])
    return found


def aligned(entries: Sequence[Any], tokens: Sequence[int]) -> list[Any]:
    """The entry of each token; None for tokens that have none, and for those to which several entries could belong."""
    places = _places([entry["id"] for entry in entries], tokens)
    backwards = _places([entry["id"] for entry in reversed(entries)], tokens[::-1])
    latest = [len(tokens) - 1 - place for place in reversed(backwards)]
    certain = {one: entry for entry, one, other in zip(entries, places, latest, strict=True) if one == other}
    return [certain.get(place) for place in range(len(tokens))]


def _places(part: Sequence[int], tokens: Sequence[int]) -> list[int]:
    """Earliest positions in a sequence at which the elements of ``part`` occur in their order."""
    places, start = [], 0
    for token in part:
        try:
            start = list(tokens).index(token, start) + 1
        except ValueError:
            raise RuntimeError("llama.cpp did not follow the tokens") from None
        places.append(start - 1)
    return places


def _tokenized(server: Any, text: str) -> list[int]:
    request = urllib.request.Request(
        f"{server.listening_address}/tokenize",
        json.dumps({"content": text, "add_special": False}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        tokens: list[int] = json.load(reply)["tokens"]
    return tokens


if __name__ == "__main__":
    sys.modules.update(dict.fromkeys(("prunecast", "prunecast_plugins")))  # type: ignore[arg-type]  # None blocks an import
    print(json.dumps(asdict(main(*sys.argv[1:]))), flush=True)
