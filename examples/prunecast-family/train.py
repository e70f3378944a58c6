"""Train a small Twin on the documentation that comes with Python: a minute on two cores, without downloads.

    python train.py twin

The folder has the model, its code and a tokenizer of bytes.
"""

import click
import torch
from prunecast_family.auto import TwinConfig, TwinForCausalLM

from prunecast.plugins import read_documents
from prunecast.testing import byte_tokenizer

CONTEXT, BATCH, LEARNING_RATE = 64, 16, 3e-3


@click.command()
@click.argument("folder")
@click.option("--steps", type=click.IntRange(min=1), default=400, show_default=True, help="Steps of the optimiser.")
def main(folder: str, steps: int) -> None:
    """Train a small Twin and write it to FOLDER, with its tokenizer."""
    torch.manual_seed(0)
    tokenizer, model = byte_tokenizer(), TwinForCausalLM(TwinConfig())
    tokens = torch.tensor(
        [token for text in read_documents("python-docs", "calibration") for token in tokenizer.encode(text)]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        starts = torch.randint(len(tokens) - CONTEXT, (BATCH,))
        batch = torch.stack([tokens[start : start + CONTEXT] for start in starts])
        loss = model(batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            click.echo(f"step {step}: loss {loss.item():.3f}", err=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    click.echo(folder)


if __name__ == "__main__":
    main()
