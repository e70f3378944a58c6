"""Tiny models of the families that GGUF can express, pruned, with a tokenizer of bytes, as files and as references."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pruned_families import Pruned, prune
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from prunecast.export.deliver import Deliverable, pruned_model
from prunecast.export.gguf import verify
from prunecast.export.gguf.pre_tokenizers import KNOWN, PROBE
from prunecast.export.gguf.write import GgufFile, write_gguf
from prunecast.models.source import ModelSource, resolve_source
from prunecast.plugins.exporter import PrunedModel
from prunecast.testing.models import family_of

VOCABULARY, CONTEXT = 320, 128
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TEXTS = [PROBE, "the cat sat on the mat, and the dog lay by the door: what is it that they were waiting for?"] * 4
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}
DEPTH = {"num_hidden_layers": 4}

CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES, **DEPTH, tie_word_embeddings=True),
    "llama-own-head": LlamaConfig(**SIZES, **DEPTH, tie_word_embeddings=False, rope_parameters=LLAMA3),
    "llama-biases": LlamaConfig(**SIZES, **DEPTH, attention_bias=True, mlp_bias=True, rope_parameters=LINEAR),
    "mistral": MistralConfig(**SIZES, **DEPTH, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES, **DEPTH, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, **DEPTH, tie_word_embeddings=True, rope_parameters=LINEAR),
    "qwen3-own-head": Qwen3Config(**SIZES, **DEPTH, tie_word_embeddings=False),
    "gemma": GemmaConfig(**SIZES, **DEPTH),
    "gemma2": Gemma2Config(**SIZES, **DEPTH, sliding_window=12, query_pre_attn_scalar=24),
    "gemma3": Gemma3TextConfig(**SIZES, num_hidden_layers=12, sliding_window=12, query_pre_attn_scalar=24),
}


def byte_tokenizer(name: str = "qwen2", vocabulary: int = VOCABULARY - 10) -> PreTrainedTokenizerFast:
    """A small trained tokenizer with a pre-tokenizer that llama.cpp knows by this name."""
    known = next(each for each in KNOWN if each.name == name)
    tokenizer = Tokenizer(models.BPE(ignore_merges=known.ignores_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = known.built, decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL.values()), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def source_of(folder: Path, config: Any, tokenizer: PreTrainedTokenizerFast) -> ModelSource:
    """A folder with config and tokenizer."""
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return resolve_source(str(folder))


def model_of(config: Any, pruned: Pruned, source: ModelSource, state: Any = None) -> PrunedModel:
    """A pruned model as exporters get it."""
    chosen = Deliverable(pruned.zeroed, pruned.state if state is None else state, pruned.architecture)
    return pruned_model("tiny", config, family_of(config), chosen, source.tokenizer(), source)


def written(
    folder: Path, name: str, architecture: str, dtype: Any = "f32", scale: float = 1.0, change: str | None = None
) -> tuple[GgufFile, Pruned]:
    """A pruned model of :data:`CONFIGS` as a file, and what it was written from.

    Args:
        folder: where to write.
        name: name of the config.
        architecture: text of the architecture.
        dtype: number format.
        scale: factor of all matrices.
        change: name of a weight that is doubled in the file alone.
    """
    pruned = prune(CONFIGS[name], architecture)
    for parameter in [*pruned.zeroed.parameters()]:
        parameter.data *= scale if parameter.ndim > 1 else 1.0
    state = {key: value * scale if value.ndim > 1 else value for key, value in pruned.state.items()}
    if change is not None:
        state[change] = 2 * state[change]
    source = source_of(folder / "model", CONFIGS[name], byte_tokenizer())
    return write_gguf(model_of(CONFIGS[name], pruned, source, state), folder / f"{name}.gguf", dtype), pruned


def engine_tokens(folder: Path, tokenizer: PreTrainedTokenizerFast, words: str) -> list[int]:
    """A text as llama.cpp splits it with this tokenizer, in a process of its own."""
    config = LlamaConfig(**SIZES | {"vocab_size": len(tokenizer)}, num_hidden_layers=1)
    pruned = prune(config, "1x1+32")
    source = source_of(folder / "tokenizer", config, tokenizer)
    file = write_gguf(model_of(config, pruned, source), folder / "tokenizer.gguf", "f32")
    script = (
        "import json, runpy, sys; engine = runpy.run_path(sys.argv[1]);"
        "request = engine['Request']([], 0, 0, [], 0, '', 64, 1);"
        "server = engine['engine'].Server(engine['_parameters'](sys.argv[2], request));"
        "print(json.dumps(engine['_tokenized'](server, sys.argv[3])), flush=True)"
    )
    command = [sys.executable, "-c", script, str(Path(verify.__file__).with_name("engine.py")), str(file.path), words]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    tokens: list[int] = json.loads(found.stdout.splitlines()[-1])
    return tokens


def text(length: int = CONTEXT - 32) -> list[int]:
    """Ids of a text."""
    return byte_tokenizer()(TEXTS[0] + TEXTS[1])["input_ids"][:length]
