"""The exporter of GGUF files."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from prunecast.architecture.shape import ModelShape
from prunecast.export.gguf.plan import Dtype, limits_of
from prunecast.export.gguf.tokenizer import tokenizer_fields
from prunecast.export.gguf.verify import missing_engine, verify_gguf
from prunecast.export.gguf.write import check_config, write_gguf
from prunecast.models.families.family import Family
from prunecast.models.source import ModelSource
from prunecast.plugins.exporter import Exporter, Limits, Parity, PrunedModel, Reference, Written
from prunecast.plugins.interfaces import PluginOptions

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_LOADING = """\
`{file}` is for stock llama.cpp, and for what is built on it; the tokenizer is in the file.

```bash
llama-cli -m {file} -p "The river" -n 20
```
"""


class GgufOptions(PluginOptions):
    """Options of the exporter of GGUF files."""

    dtype: Dtype = Field(
        default="f16",
        description="number format of the matrices; q8_0 and q4_0 quantise blocks of 32 numbers, rows that are no "
        "multiple of 32 remain in f16",
    )


class Gguf(Exporter[GgufOptions]):
    """One GGUF file that stock llama.cpp loads.

    Layers of different sizes need an architecture of llama.cpp with sizes by layer: ``deci`` for models like Llama,
    ``openelm`` for tied models with norms of queries and keys. Others are written in the plain architecture of their
    family if all their layers are alike. What llama.cpp cannot express is replaced by zeros that compute the same.
    """

    options_model = GgufOptions
    reserved = ("*.gguf",)

    @property
    def entry(self) -> str:
        """The GGUF file."""
        return f"model-{self.options.dtype}.gguf"

    def limits(self, config: "PreTrainedConfig", family: Family, shape: ModelShape) -> Limits:
        """Architectures that llama.cpp can express."""
        check_config(config, shape)
        return limits_of(shape, self.options.dtype)

    def check(self, source: ModelSource) -> None:
        """Find out whether llama.cpp knows the tokenizer."""
        tokenizer_fields(source)

    def write(self, model: PrunedModel, folder: Path) -> Written:
        """Write the file."""
        file = write_gguf(model, folder / self.entry, self.options.dtype)
        return Written(file.parameters, _LOADING.format(file=self.entry), file.notes, library="gguf")

    def missing_engine(self) -> str | None:
        """The wheel ``xllamacpp``, if it is not installed."""
        return missing_engine()

    def verify(self, model: PrunedModel, folder: Path, reference: Reference) -> Parity:
        """Compare the file in llama.cpp, of the wheel ``xllamacpp``, with the measured model."""

        def encode(text: str) -> list[int]:
            ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids

        copied = model.source.kind == "gguf"
        return verify_gguf(folder / self.entry, self.options.dtype, reference, encode, copied)
