"""An exporter: a program of torch.export, which runs without transformers and without modelling code."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import Field

from prunecast.plugins import (
    Exporter,
    ExportError,
    Family,
    Limits,
    ModelShape,
    Parity,
    PluginOptions,
    PrunedModel,
    Reference,
    Written,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LARGEST_DIFFERENCE = 1e-3
"""Largest difference between logits that is still the same model, computed in another order."""

LOADING = """\
`model.pt2` maps token ids, int64 of shape (1, tokens), to logits.

```python
import torch

logits = torch.export.load("model.pt2").module()(torch.tensor([[1, 2, 3]]))
```
"""

# Run in a fresh process, so that nothing of this one can help the file to load.
SCRIPT = """\
import json, sys, time
import torch
start = time.perf_counter()
program = torch.export.load(sys.argv[1]).module()
seconds = time.perf_counter() - start
probe = torch.load(sys.argv[2])
with torch.inference_mode():
    difference = (program(probe["tokens"]).float() - probe["logits"]).abs().max().item()
print(json.dumps({"seconds": seconds, "difference": difference, "version": torch.__version__}))
"""


class ProgramOptions(PluginOptions):
    """Options of the exporter."""

    probe: int = Field(default=32, ge=2, description="number of tokens whose logits are compared")


class Program(Exporter[ProgramOptions]):
    """The model as a program of torch.export with weights in float32, for texts of any length in its context."""

    options_model = ProgramOptions
    entry = "model.pt2"

    def limits(self, config: "PreTrainedConfig", family: Family, shape: ModelShape) -> Limits:
        """None: a program can have layers of any size."""
        return Limits()

    def write(self, model: PrunedModel, folder: Path) -> Written:
        """Trace the model and write the program; a model that torch.export cannot trace is an ExportError."""
        import torch

        loaded = model.load()

        class Logits(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = loaded

            def forward(self, tokens: torch.Tensor) -> torch.Tensor:
                logits: torch.Tensor = self.model(tokens, use_cache=False).logits
                return logits

        length = torch.export.Dim("tokens", min=2, max=model.shape.context)
        example = torch.ones(1, self.options.probe, dtype=torch.int64)
        try:
            program = torch.export.export(Logits(), (example,), dynamic_shapes=({1: length},))
        except RuntimeError as error:
            raise ExportError(f"torch.export does not trace this model: {str(error).splitlines()[0]}") from error
        torch.export.save(program, folder / self.entry)
        return Written(loaded.num_parameters(), LOADING)

    def verify(self, model: PrunedModel, folder: Path, reference: Reference) -> Parity:
        """Compare logits of random tokens in a fresh process."""
        import torch

        length = min(self.options.probe, reference.context)
        tokens = torch.randint(0, model.shape.vocabulary, (1, length), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            logits = reference.logits(tokens).float().cpu()
        with TemporaryDirectory() as scratch:
            probe = Path(scratch, "probe.pt")
            torch.save({"tokens": tokens, "logits": logits}, probe)
            command = [sys.executable, "-c", SCRIPT, str(folder / self.entry), str(probe)]
            outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        if outcome.returncode != 0:
            raise ExportError(f"{self.entry} does not load: {(outcome.stderr.strip().splitlines() or ['?'])[-1]}")
        found = json.loads(outcome.stdout.splitlines()[-1])
        if not found["difference"] <= LARGEST_DIFFERENCE:
            raise ExportError(f"{self.entry} is not the measured model: logits differ by {found['difference']:.2g}")
        return Parity(
            engine=f"torch.export {found['version']}",
            compared=f"logits of {length} tokens",
            max_difference=found["difference"],
            load_seconds=found["seconds"],
        )
