"""Writing a pruned model as a GGUF file that stock llama.cpp loads."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.architecture.shape import ModelShape
from prunecast.errors import ExportError
from prunecast.export.gguf.plan import DTYPES, QUANTISED, Dtype, Plan, plan
from prunecast.export.gguf.quantise import EMBEDDINGS, stored
from prunecast.export.gguf.rope import rope_fields
from prunecast.export.gguf.tensors import gguf_tensors
from prunecast.export.gguf.tokenizer import padded, tokenizer_fields
from prunecast.export.huggingface import biased_outputs, head_dim_of
from prunecast.models.families.windows import context_of
from prunecast.plugins.exporter import PrunedModel

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class GgufFile:
    """A written GGUF file.

    Attributes:
        path: the file.
        architecture: its architecture of llama.cpp.
        dtype: number format of its matrices.
        parameters: count of numbers in its tensors, stand-ins included.
        bytes: its size.
        notes: one line for each substitution in it.
    """

    path: Path
    architecture: str
    dtype: Dtype
    parameters: int
    bytes: int
    notes: tuple[str, ...]


def write_gguf(model: PrunedModel, file: Path, dtype: Dtype) -> GgufFile:
    """Write a pruned model as one GGUF file. It appears complete or not at all, and replaces a file of its name.

    Args:
        model: the model. If it came from a ``.gguf`` file, the fields of the tokenizer are copied from there.
        file: the file to write, in an existing folder.
        dtype: number format of the matrices; vectors are in float32.

    Raises:
        ExportError: llama.cpp cannot express the family, the architecture or the tokenizer.
    """
    import gguf

    if dtype not in DTYPES:
        raise ExportError(f"GGUF files are written in {', '.join(DTYPES)}, not in {dtype!r}: choose one of them")
    planned = plan(model.shape, model.architecture, dtype, biased_outputs(model.family, model.state))
    fields = _fields(model.config, planned)
    tokens = padded(tokenizer_fields(model.source), model.config.vocab_size, model.source.name)
    unfinished = file.with_name(f"{file.name}.unfinished")
    writer = gguf.GGUFWriter(unfinished, planned.target.name)
    writer.add_type("model")
    writer.add_name(model.name)
    writer.add_file_type(_file_type(dtype))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, value in fields.items():
        _add(writer, f"{planned.target.name}.{name}", value)
    for name, value in tokens.items():
        _add(writer, name, value)
    parameters, halves = 0, []
    for name, tensor in gguf_tensors(model.config, model.family, model.state, planned):
        values, kind = stored(name, tensor, dtype)
        writer.add_tensor(name, values, raw_dtype=kind)
        parameters += tensor.numel()
        if dtype in QUANTISED and kind == gguf.GGMLQuantizationType.F16:
            halves.append(name)
    _publish(writer, unfinished, file)
    notes = (*planned.notes, *_format_notes(dtype, halves))
    return GgufFile(file, planned.target.name, dtype, parameters, file.stat().st_size, notes)


def check_config(config: "PreTrainedConfig", shape: ModelShape) -> None:
    """Check early, from a config alone, that llama.cpp computes the model.

    Raises:
        ExportError: it has no architecture for the family, or another activation or rotary embedding.
    """
    _fields(config, plan(shape, shape.dense, "f32"))


def _publish(writer: Any, unfinished: Path, file: Path) -> None:
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _fields(config: "PreTrainedConfig", planned: Plan) -> dict[str, Any]:
    """Sizes and constants of the model, without the name of the architecture in front."""
    untyped: Any = config
    target, sizes = planned.target, [layer.written for layer in planned.layers]
    _check_activation(config, planned)
    by_layer = {
        "attention.head_count": [layer.query_heads for layer in sizes],
        "attention.head_count_kv": [layer.kv_groups for layer in sizes],
        "feed_forward_length": [layer.mlp_width for layer in sizes],
    }
    head_dim = head_dim_of(config)
    fields: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": context_of(config),
        "embedding_length": config.hidden_size,
        "block_count": len(sizes),
        **(by_layer if target.sizes_by_layer else {name: values[0] for name, values in by_layer.items()}),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": float(untyped.rms_norm_eps),
        "rope.dimension_count": head_dim,
        **{f"rope.{name}": value for name, value in rope_fields(config).items()},
    }
    if target.windows:
        fields["attention.sliding_window"] = untyped.sliding_window
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if getattr(untyped, name, None):
            fields[name] = float(getattr(untyped, name))
    return fields


def _check_activation(config: "PreTrainedConfig", planned: Plan) -> None:
    untyped: Any = config
    activation = getattr(untyped, "hidden_activation", None) or untyped.hidden_act
    if activation != planned.target.activation:
        raise ExportError(
            f"llama.cpp's {planned.target.name!r} computes {planned.target.activation} in the MLP, the model "
            f"{activation}: choose another target"
        )


def _file_type(dtype: Dtype) -> int:
    import gguf

    kind = "ALL_F32" if dtype == "f32" else f"MOSTLY_{dtype.upper()}"
    return int(gguf.LlamaFileType[kind])


def _format_notes(dtype: Dtype, halves: list[str]) -> list[str]:
    notes = [f"{' and '.join(EMBEDDINGS)} are in q8_0"] if dtype == "q4_0" else []
    if halves:
        notes.append(f"in f16, as their rows are no multiple of 32: {len(halves)} tensors, the first is {halves[0]}")
    return notes


def _add(writer: Any, name: str, value: Any) -> None:
    """Add a field in the type that llama.cpp reads it in."""
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    else:
        writer.add_array(name, value)
