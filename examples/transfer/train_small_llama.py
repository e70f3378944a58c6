"""Train a small Llama for the example of transfer between models: minutes on two cores, without downloads.

    python examples/transfer/train_small_llama.py out/small-llama

A byte-level BPE vocabulary and a Llama of 8 layers are trained on one text: by default the public-domain novels of the
data set ``books``, or the documentation that comes with Python (``--text python-docs``).
"""

import math
import time
from pathlib import Path

import click

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
VOCABULARY, CONTEXT, BATCH = 2048, 128, 12
LEARNING_RATE, WARM_UP = 3e-3, 40
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
SPLITS = {"books": "calibration"}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--text", default="books", show_default=True, help="Data set to train on.")
@click.option("--steps", type=click.IntRange(min=1), default=700, show_default=True, help="Steps of the optimiser.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights and batches.")
def main(folder: Path, text: str, steps: int, seed: int) -> None:
    """Train a small Llama and write it to FOLDER, with its tokenizer."""
    import torch

    from prunecast.plugins import read_documents

    torch.manual_seed(seed)
    documents = read_documents(text, SPLITS.get(text, "train"))
    tokenizer = train_tokenizer(documents)
    tokens = torch.tensor([number for document in documents for number in tokenizer(document)["input_ids"]])
    model = new_model(tokenizer)
    click.echo(f"{model.num_parameters():,} parameters, {len(tokens):,} tokens of {text}", err=True)
    train(model, tokens, steps)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    click.echo(folder)


def train_tokenizer(documents):
    """A byte-level BPE tokenizer trained on the documents."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        documents, vocab_size=VOCABULARY, special_tokens=list(SPECIALS.values()), show_progress=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **SPECIALS)


def new_model(tokenizer):
    """A Llama with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    specials = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in SPECIALS}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SIZES, **specials))


def train(model, tokens, steps):
    """AdamW on random windows, with warm-up and cosine schedule; the loss is reported every 50 steps."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, 0.55 + 0.45 * math.cos(math.pi * step / steps))
    )
    start = time.perf_counter()
    for step in range(steps):
        places = torch.randint(len(tokens) - CONTEXT, (BATCH,))
        batch = torch.stack([tokens[place : place + CONTEXT] for place in places])
        loss = model(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            click.echo(f"step {step}: loss {loss.item():.3f}, {time.perf_counter() - start:.0f} s", err=True)


if __name__ == "__main__":
    main()
