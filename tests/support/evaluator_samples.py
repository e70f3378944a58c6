"""Models with attention removed in some layers, a byte tokenizer, and generated data files."""

import gzip
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sliced_models
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from prunecast.architecture.architecture import Architecture
from prunecast.errors import ModelError
from prunecast.models.elastic import ElasticModel
from prunecast.models.source import resolve_source
from prunecast.testing.models import shape_of

BYTES = 256
"""Tokens of the byte tokenizer."""

FAMILIES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    "mistral-sliding": ("mistral", {"sliding_window": 5}),
    "gemma2": ("gemma2", {"sliding_window": 5}),
    "granite": ("granite", {"logits_scaling": 3.0}),
    "gpt2": ("gpt2", {"n_inner": 24}),
    "opt": ("opt", {"ffn_dim": 24}),
}
"""Rotary and learned positions, full and sliding attention, plain and capped logits."""

GONE: dict[str, tuple[int, ...]] = {"nowhere": (), "first": (0,), "last": (2,), "everywhere": (0, 1, 2)}
"""Layers whose attention is removed."""


def byte_tokenizer() -> Any:
    """A tokenizer with one token for every byte and no others."""
    vocabulary = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="!")


def words(seed: int, count: int) -> str:
    """Random words with a skewed frequency distribution, as in natural language."""
    rng = np.random.default_rng(seed)
    known = ["".join(rng.choice(list("aeinorst"), size=2 + length % 5)) for length in range(40)]
    return " ".join(known[min(39, pick)] for pick in rng.geometric(0.1, size=count) - 1)


def model_of(tiny_model: Any, case: str, **changes: object) -> Any:
    """The tiny model of a case of ``FAMILIES`` with room for the bytes of a prompt."""
    family, own = FAMILIES[case]
    return tiny_model(family, **{"vocab_size": BYTES, "max_position_embeddings": 1024, **own, **changes})


def elastic_of(model: Any, gone: Iterable[int] = ()) -> ElasticModel:
    """The elastic form of a copy of the model, without attention in some layers."""
    shape = shape_of(model.config)
    elastic = sliced_models.elastic_of(model, sliced_models.random_importance(shape, seed=3))
    elastic.apply(without_attention(shape.dense, gone))
    return elastic


def without_attention(dense: Architecture, gone: Iterable[int]) -> Architecture:
    gone = set(gone)
    return Architecture([(0, 0, layer[2]) if i in gone else layer for i, layer in enumerate(dense.layers)])


def shape_with_room(context: int = 100_000, vocabulary: int = BYTES) -> Any:
    """The shape of a tiny Llama with this context and vocabulary."""
    config = AutoConfig.for_model(
        "llama", vocab_size=vocabulary, hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    return replace(shape_of(config), context=context)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A JSON Lines file, compressed if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def log_likelihood(model: Any, tokenizer: Any, context: str, scored: str) -> float:
    """Log-likelihood of ``scored`` after ``context``, from the logits of one stock forward pass."""
    start = len(tokenizer(context)["input_ids"])
    ids = torch.tensor([tokenizer(context + scored)["input_ids"]])
    with torch.inference_mode():
        predicted = model(ids, use_cache=False).logits[0, start - 1 : -1].log_softmax(-1)
    return float(predicted.gather(1, ids[0, start:, None]).sum())


def spoil(model: Any) -> Any:
    """The model, changed to give NaN logits."""
    model.get_output_embeddings().weight.data[:] = float("nan")
    return model


def real_data() -> Path:
    """The folder of real data sets; skips the test if there is none."""
    folder = os.environ.get("PRUNECAST_DATA")
    if not folder:
        pytest.skip("needs the data sets: set PRUNECAST_DATA to their folder")
    return Path(folder)


def smollm2_tokenizer() -> Any:
    """The tokenizer of SmolLM2, from its file; skips the test if the distribution that has it is missing."""
    try:
        path = resolve_source("smollm2-135m").path
    except ModelError as error:
        pytest.skip(str(error))
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
