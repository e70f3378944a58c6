"""Folders and files of tiny saved models, and changes to them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def edit_config(folder: Path, **changes: object) -> None:
    """Set top-level keys of ``config.json``."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Replace the contents of ``model.safetensors`` by what ``change`` makes of them."""
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path, {"format": "pt"})


def logits_of(model: Any) -> torch.Tensor:
    """Logits of ten tokens."""
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.arange(10)[None]).logits
    return logits


def write_gguf(path: Path, merge: str = "A B", architecture: str = "llama", tensors_a_file: int = 0) -> Path:
    """Write a GGUF file of a tiny Llama with random weights; its tokenizer merges two letters into one token.

    Args:
        path: the file; with ``tensors_a_file``, the name that the parts are named after.
        merge: the merge of the tokenizer.
        architecture: what the header names.
        tensors_a_file: number of tensors in each of several files; 0 for one file.
    """
    import numpy as np
    from gguf import GGUFWriter

    rng = np.random.default_rng(0)
    vocabulary = ["<unk>", "<s>", "</s>", *(chr(33 + number) for number in range(60)), merge.replace(" ", "")]
    writer = GGUFWriter(path, architecture, split_max_tensors=tensors_a_file)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_merges([merge])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {"token_embd": (64, 32), "output_norm": (32,), "output": (64, 32)}
    for layer in range(2):
        sizes = {
            "attn_norm": (32,),
            "attn_q": (32, 32),
            "attn_k": (16, 32),
            "attn_v": (16, 32),
            "attn_output": (32, 32),
        }
        sizes |= {"ffn_norm": (32,), "ffn_gate": (48, 32), "ffn_up": (48, 32), "ffn_down": (32, 48)}
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in sizes.items()}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.standard_normal(shape).astype(np.float32) * 0.1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
