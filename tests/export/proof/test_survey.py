"""Default configs of model types, for which a description is proven where no model is named."""

import pytest

from prunecast.errors import ModelError
from prunecast.export.proof.survey import default_config


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("t5", "model type 't5' is not that of a causal language model; choose one that is"),
        ("nosuch", "has no model type 'nosuch'"),
        ("gemma4_assistant", "no valid default config .*: ValueError: hidden_size_per_layer_input must be 0"),
    ],
)
def test_a_type_without_a_causal_language_model_is_refused_as_that(kind: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        default_config(kind)
