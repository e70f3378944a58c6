"""Headers of GGUF files, compared with what the library gguf reads."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from saved_models import write_gguf

from prunecast.models.gguf_header import gguf_header


def with_everything(path: Path) -> Path:
    """A file with values of every type, lists of numbers and of texts, and an alignment of its own."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{kind}")(f"a.{kind}", 7)
    writer.add_float32("a.float32", 0.5)
    writer.add_float64("a.float64", 0.25)
    writer.add_bool("a.bool", True)
    writer.add_string("a.text", "naïve")
    writer.add_array("a.texts", ["one", "zwölf", ""])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.flags", [True, False])
    writer.add_uint32("llama.block_count", 3)
    writer.add_tensor("rope_freqs.weight", np.array([1.0, 1.5, 8.0], dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.bias", np.zeros((4, 5), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("write", [with_everything, write_gguf])
def test_values_and_places_are_those_of_the_library(write, tmp_path: Path) -> None:
    path = write(tmp_path / "file.gguf")
    header, reader = gguf_header(path), gguf.GGUFReader(path)
    assert header is not None
    own = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    single = {name: field.contents() for name, field in own.items() if field.types[0] != gguf.GGUFValueType.ARRAY}
    assert header.fields == single
    assert {name: (each.elements, each.offset) for name, each in header.tensors.items()} == {
        each.name: (each.n_elements, each.data_offset) for each in reader.tensors
    }


def test_a_value_of_the_architecture_and_numbers_of_a_tensor(tmp_path: Path) -> None:
    header = gguf_header(with_everything(tmp_path / "file.gguf"))
    assert header is not None
    assert (header.architecture, header.value("block_count"), header.value("context_length")) == ("llama", 3, None)
    assert header.floats("rope_freqs.weight") == (1.0, 1.5, 8.0)
    assert header.floats("blk.0.attn_q.bias") == header.floats("none") == ()


@pytest.mark.parametrize("length", [4, 20, 300])
def test_a_file_that_is_cut_off_has_none(length: int, tmp_path: Path) -> None:
    path = with_everything(tmp_path / "file.gguf")
    path.write_bytes(path.read_bytes()[:length])
    assert gguf_header(path) is None


@pytest.mark.parametrize("content", [b"GGUF" + bytes(1000), b"GGUF\x00\x00\x00\x03" + bytes(100), b"GGML" + bytes(50)])
def test_another_format_or_byte_order_has_none(content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "file.gguf").write_bytes(content)
    assert gguf_header(path) is None
