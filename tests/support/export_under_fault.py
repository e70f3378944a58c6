"""Exports a tiny model for the tests of faults, in a process that is killed, or loses its permission, at some moment.

Usage: ``python export_under_fault.py FOLDER SEED [FAULT NUMBER]``. Weights follow from the seed. The fault, ``kill``
or ``forbid``, happens just before the change of a file with this number. At the end the number of changes is printed.
The exit code is 1 after an ExportError, whose message is printed.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from prunecast.architecture.architecture import Architecture
from prunecast.errors import ExportError
from prunecast.export.card import CardContent
from prunecast.export.deliver import Deliverable, deliver, pruned_model
from prunecast.export.huggingface import HuggingFace, HuggingFaceOptions
from prunecast.models.source import ModelSource
from prunecast.plugins.exporter import Reference
from prunecast.testing.models import family_of

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "subprocess.Popen")
VOCABULARY = 97


def watch(folder: Path, fault: str, number: int) -> list[str]:
    """Count changes of files, and let the fault happen at the one of this number."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writing or event in CHANGES:
            seen.append(event)
            if len(seen) == number + 1:
                if fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                os.chmod(folder, 0o555)

    sys.addaudithook(hook)
    return seen


def export(folder: Path, seed: int) -> None:
    """Export a random model."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="w0")
    card = CardContent(f"tiny {seed}", None, f"seed: {seed}", ("model",), [("this",)], "none")
    architecture = Architecture.parse("2x2+24*2")
    chosen = Deliverable(model, model.state_dict(), architecture)
    source = ModelSource("folder", "tiny", folder.parent / "nothing")
    subject = pruned_model("tiny", config, family_of(config), chosen, tokenizer, source)
    reference = Reference(chosen.logits, (), (), 64)
    deliver(HuggingFace(HuggingFaceOptions()), "huggingface", subject, card, folder, reference)


def main(folder: str, seed: str, fault: str = "", number: str = "-1") -> int:
    """Export, with or without a fault."""
    seen = watch(Path(folder), fault, int(number))
    try:
        export(Path(folder), int(seed))
    except ExportError as error:
        print(error)
        return 1
    print(len(seen))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
