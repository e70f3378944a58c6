"""Reading of architecture files in the formats of other tools; the files are written by the tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workplace import SMOLLM2

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.formats import from_darwinlm, from_evopress, from_puzzletron, from_text
from prunecast.errors import ConfigurationError

KV, HEADS, WIDTH = SMOLLM2.dense.layers[0]
L = len(SMOLLM2.dense.layers)
REMOVED_ATTENTION = (0, 192, 384, 576)  # columns of o_proj: three heads of size 64 per level
REMOVED_MLP = (0, 512, 1024, 1536)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], Path]:
    def to_file(content: object) -> Path:
        path = tmp_path / "file"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


def with_first(*layers: tuple[int, int, int]) -> Architecture:
    return Architecture([*layers, *SMOLLM2.dense.layers[len(layers) :]])


def test_text_is_one_architecture_a_line_or_a_json_list(write: Callable[[object], Path]) -> None:
    lines = [str(SMOLLM2.dense), "3x2+512*30"]
    expected = [SMOLLM2.dense, Architecture([(3, 2, 512)] * L)]
    assert from_text(write("# two\n\n" + "\n".join([*lines, lines[0]])), SMOLLM2).architectures == expected
    assert from_text(write(lines), SMOLLM2).architectures == expected


def test_an_evopress_drop_configuration_takes_attention_or_mlp_or_both(write: Callable[[object], Path]) -> None:
    lines = ["none", "attn", "mlp", "attn+mlp", *["none"] * (L - 4)]
    found = from_evopress(write("\n".join(lines) + "\n"), SMOLLM2)
    assert found.architectures == [with_first((3, 3, WIDTH), (0, 0, WIDTH), (3, 3, 0), (0, 0, 0))]
    assert found.notes == ()


def test_a_darwinlm_level_is_a_number_of_columns(write: Callable[[object], Path]) -> None:
    text = "model.layers.0.self_attn.o_proj: 1\nmodel.layers.1.self_attn.o_proj: 3\n"
    text += "model.layers.0.mlp.down_proj: 2\nmodel.layers.2.mlp.down_proj: 3"
    found = from_darwinlm(write(text), SMOLLM2, REMOVED_ATTENTION, REMOVED_MLP)
    assert found.architectures == [with_first((3, 2, 512), (0, 0, WIDTH), (3, 3, 0))]


def test_indivisible_head_counts_reduce_the_number_of_groups(write: Callable[[object], Path]) -> None:
    line = "model.layers.0.self_attn.o_proj: 1"
    assert from_darwinlm(write(line), SMOLLM2, (0, 5 * 64), (0,)).architectures == [with_first((2, 2, WIDTH))]
    with pytest.raises(
        ConfigurationError, match="7 query heads do not fit equal KV groups, at most 3 groups of 3 heads"
    ):
        from_darwinlm(write(line), SMOLLM2, (0, 2 * 64), (0,))


def block(attention: Any, ffn: Any) -> dict[str, Any]:
    return {"attention": attention, "ffn": ffn}


FULL = block({"num_key_value_heads": 3, "no_op": False}, {"intermediate_size": WIDTH, "no_op": False, "moe": None})


@pytest.mark.parametrize(
    ("first", "layer"),
    [
        (block({"no_op": True, "num_key_value_heads": None}, {"intermediate_size": 700}), (0, 0, 700)),
        (block({"n_heads_in_group": 3}, {"ffn_mult": 2.0}), (3, 3, 768)),
        (block({"n_heads_in_group": None, "no_op": True}, {"no_op": True, "ffn_mult": None}), (0, 0, 0)),
        (
            {
                "subblock_configs": [
                    {"kind": "attention", "num_query_heads": 4, "num_kv_heads": 2},
                    {"kind": "ffn", "intermediate_size": 96},
                ]
            },
            (2, 2, 96),
        ),
        ({"subblock_configs": [{"kind": "ffn", "intermediate_size": 96}]}, (0, 0, 96)),
    ],
)
def test_puzzletron_blocks_of_every_dialect(
    write: Callable[[object], Path], first: dict[str, Any], layer: tuple[int, int, int]
) -> None:
    blocks = [first, *[FULL] * (L - 1)]
    for content in ({"model_type": "llama", "block_configs": blocks}, blocks):
        found = from_puzzletron(write(content), SMOLLM2)
        assert (found.architectures, found.notes) == ([with_first(layer)], ())


def test_each_puzzletron_solution_is_an_architecture_with_notes_on_merged_heads(
    write: Callable[[object], Path],
) -> None:
    merged = block({"num_key_value_heads": 1}, {"intermediate_size": WIDTH})
    content = [{"block_configs": [FULL] * L}, {"block_configs": [merged, *[FULL] * (L - 1)]}]
    found = from_puzzletron(write(content), SMOLLM2)
    assert found.architectures == [SMOLLM2.dense, with_first((1, 3, WIDTH))]
    assert found.notes == ("1 layer with all query heads over merged KV heads; read as whole KV groups pruned",)


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (from_text, "3x2+512*29", "29 layers, the model has 30"),
        (from_text, "3x4+512*30", "layer 0 keeps 3x4.512, more than the model's 3x3.1536"),
        (from_text, "3x2*30", ":1: '3x2.30' is not a layer"),
        (from_text, "# nothing\n", "holds no architecture"),
        (from_text, "[1]", "not a JSON list of strings"),
        (from_evopress, "none\nboth\n", ":2: 'both' must be one of none, attn, mlp, attn.mlp"),
        (from_evopress, "none\n" * 29, "29 lines, the model has 30 layers"),
        (from_evopress, "model.layers.0.mlp.down_proj: 3\n" * 30, "do not change sizes; name a drop config"),
        (from_puzzletron, "{", "not valid JSON"),
        (from_puzzletron, {"hidden_size": 576}, "has no block_configs"),
        (from_puzzletron, [FULL] * 3, "3 blocks, the model has 30 layers"),
        (
            from_puzzletron,
            [block({"replace_with_linear": True}, {})] * 30,
            "block 0: replace_with_linear is not supported",
        ),
        (from_puzzletron, [block({}, {"moe": {"num_local_experts": 8}})] * 30, "block 0: moe is not supported"),
        (from_puzzletron, [{"subblock_configs": [{"kind": "mamba"}]}] * 30, "block 0: mamba is not supported"),
        (
            from_puzzletron,
            {"block_configs": ["dense"] * 30},
            "block 0: cannot be read as attention and ffn of the model",
        ),
        (from_puzzletron, [block({"n_heads_in_group": 16}, {})] * 30, "block 0: cannot be read as .* name the model"),
        (from_puzzletron, [block({}, {"intermediate_size": -1})] * 30, "a size of -1"),
    ],
)
def test_invalid_configurations_are_refused_in_one_line(
    write: Callable[[object], Path], read: Callable[..., Any], content: object, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        read(write(content), SMOLLM2)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model.layers.0.mlp.up_proj: 1", "is not a level"),
        ("model.layers.30.mlp.down_proj: 1", "no layer 30, the model has layers 0 to 29"),
        ("model.layers.0.mlp.down_proj: 4", "level 4 is out of range, --cols-removed-mlp lists 4 levels"),
        ("model.layers.0.self_attn.o_proj: 9", "level 9 is out of range, --cols-removed-attn lists 4 levels"),
    ],
)
def test_invalid_darwinlm_lines_are_refused_with_their_line_number(
    write: Callable[[object], Path], line: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=f":1: .*{message}"):
        from_darwinlm(write(line), SMOLLM2, REMOVED_ATTENTION, REMOVED_MLP)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        from_evopress(tmp_path / "absent", SMOLLM2)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8 text"):
        from_text(tmp_path / "binary", SMOLLM2)
