"""Architectures: canonical form, keys and text."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecast.architecture.architecture import Architecture, sizes_of

layer = st.tuples(st.integers(0, 40), st.integers(0, 9), st.integers(0, 20000))
layers = st.lists(layer, min_size=1, max_size=12)


@given(layers)
def test_text_and_json_round_trip(given_layers: list[tuple[int, int, int]]) -> None:
    architecture = Architecture(given_layers)
    assert Architecture.parse(str(architecture)) == architecture
    assert eval(repr(architecture)) == architecture
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert Architecture.from_sizes(sizes_of([architecture])) == [architecture]


@given(layers, layers)
def test_keys_are_equal_exactly_when_architectures_are(
    a: list[tuple[int, int, int]], b: list[tuple[int, int, int]]
) -> None:
    assert (Architecture(a) == Architecture(b)) == (Architecture(a).key == Architecture(b).key)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99))
def test_attention_without_groups_or_without_heads_equals_no_attention(groups: int, heads: int, width: int) -> None:
    assert Architecture([(groups, 0, width)]) == Architecture([(0, heads, width)]) == Architecture([(0, 0, width)])


def test_key_is_the_same_in_another_process_with_another_hash_seed() -> None:
    script = (
        "from prunecast.architecture.architecture import Architecture as A; print(A([(3, 2, 1024), (0, 0, 7)]).key)"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert keys == {Architecture([(3, 2, 1024), (0, 0, 7)]).key} == {"a5f83e5f8b4c3ba481b7f562bfda0e82"}


def test_text_joins_equal_adjacent_layers() -> None:
    assert str(Architecture([(3, 3, 1536)] * 3 + [(0, 0, 768), (3, 2, 0)])) == "3x3+1536*3 0+768 3x2+0"


@pytest.mark.parametrize("bad", [[(1, 2, -3)], [(1, 2.0, 3)], [(True, 1, 3)], [(np.int64(1), 2, 3)]])
def test_counts_must_be_non_negative_integers(bad: list[tuple[int, int, int]]) -> None:
    with pytest.raises(ValueError, match="three non-negative integers"):
        Architecture(bad)


@pytest.mark.parametrize("bad", ["3x+5", "3x2", "-1x2+5", "3x2+5*"])
def test_invalid_text_error_names_the_part(bad: str) -> None:
    with pytest.raises(ValueError, match="is not a layer"):
        Architecture.parse(f"3x2+5 {bad}")


def test_an_architecture_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        Architecture([])
