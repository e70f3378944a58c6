"""Folders of tiny models of many families, depths and contexts, each with a tokenizer of bytes."""

from pathlib import Path

from prunecast.testing.models import byte_tokenizer, tiny_model

MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", {}),
    "one-layer": ("llama", {"num_hidden_layers": 1, "max_position_embeddings": 64}),
    "one-head": ("llama", {"num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 12}),
    "deep": ("qwen3", {"num_hidden_layers": 30, "head_dim": 8, "max_position_embeddings": 32768}),
    "wide": ("mistral", {"intermediate_size": 512, "tie_word_embeddings": False, "num_hidden_layers": 6}),
    "biased": ("qwen2", {"num_hidden_layers": 2}),
    "begins": ("gemma2", {"head_dim": 8, "max_position_embeddings": 128}),
    "transposed": ("gpt2", {"n_inner": 24, "max_position_embeddings": 96}),
    "positions": ("opt", {"ffn_dim": 24, "word_embed_proj_dim": 64, "max_position_embeddings": 33}),
    "fused": ("phi3", {"num_hidden_layers": 5}),
    "no-rope": ("smollm3", {"num_hidden_layers": 8}),
}
"""Family and config attributes by name of the folder."""


def save_model(folder: Path, name: str) -> Path:
    """Save one of :data:`MODELS` with its tokenizer to ``folder / name``; returns that folder."""
    family, changes = MODELS[name]
    tiny_model(family, **changes).save_pretrained(folder / name)
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = '"'
    tokenizer.save_pretrained(folder / name)
    return folder / name
