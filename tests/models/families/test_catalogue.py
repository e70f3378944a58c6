"""Model types that are refused before anything is read or made."""

import pytest
import transformers

from prunecast.errors import ModelError
from prunecast.models.families.catalogue import check_type, no_class


def test_a_type_of_a_newer_transformers_is_refused_with_both_versions_and_the_remedy() -> None:
    with pytest.raises(ModelError) as refused:
        check_type({"model_type": "zebra9", "transformers_version": "9.1.0"}, "x")
    assert str(refused.value) == (
        f"model x: transformers {transformers.__version__}, which is installed, has no model type 'zebra9', and its "
        "config is of version 9.1.0: install a version that has it (pip install -U transformers), or correct the type"
    )


def test_code_of_its_own_is_the_remedy_where_a_model_comes_with_it() -> None:
    with pytest.raises(ModelError) as refused:
        check_type({"model_type": "zebra9", "auto_map": {"AutoConfig": "a.B"}}, "x")
    assert str(refused.value) == str(no_class("zebra9", "x"))


def test_other_kinds_of_models_are_refused_and_decoders_are_not() -> None:
    with pytest.raises(ModelError, match="type 't5' is not a causal language model; choose one that is"):
        check_type({"model_type": "t5"}, "x")
    for content in ({"model_type": "llama"}, {"model_type": "prunecast-llama"}, {}):
        check_type(content, "x")
