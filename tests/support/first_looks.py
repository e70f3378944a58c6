"""Models, machines and texts as a first spec finds them, without files."""

from pathlib import Path

import torch
from transformers import AutoConfig

from prunecast.first_spec.look import Look, Machine
from prunecast.first_spec.texts import Text, Texts
from prunecast.first_spec.write import AtHand
from prunecast.models.source import ModelSource
from prunecast.testing.models import byte_tokenizer, shape_of

SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
TINY = {**SMOLLM2, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
TINY |= {"num_key_value_heads": 1, "max_position_embeddings": 100}

FAST = Machine(torch.device("cuda"), torch.bfloat16, 10**11, 2e12, 2e11)
SLOW = Machine(torch.device("cpu"), torch.float32, 10**11, 1e11, 1e11)

MANY = Texts(
    (Text("wikipedia-spaced", "train", 900), Text("c4", "train", 20)),
    (Text("wikitext2", "validation", 500), Text("ptb", "validation", 12)),
    (Text("wikitext2", "test", 500), Text("ptb", "test", 400)),
)
BUNDLED = Texts(
    (Text("python-docs", "calibration", 500),),
    (Text("python-docs", "validation", 100),),
    (Text("python-docs", "test", 100),),
)


def at_hand(sizes: dict[str, object], machine: Machine, texts: Texts, source: ModelSource) -> AtHand:
    """A Llama of some sizes; its tokenizer is not used."""
    config = AutoConfig.for_model("llama", **sizes)
    return AtHand(Look(source, config, shape_of(config), byte_tokenizer(), 0, ("gguf", "huggingface")), machine, texts)


def smollm2(machine: Machine = FAST, texts: Texts = MANY) -> AtHand:
    """A model of the sizes of SmolLM2-135M, with a context of 512."""
    return at_hand(SMOLLM2, machine, texts, ModelSource("folder", "smollm2-135m", Path("smollm2-135m")))
