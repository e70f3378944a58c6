"""Rehearsal of an export: a check, before measuring, that transformers computes a model without attention.

transformers derives positions and masks from the number of tokens in a cache, and its versions differ in how models
count them. So one architecture of the proof is exported with the user's config, for every family, bundled ones
included.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from prunecast.architecture.architecture import Architecture, Layer
from prunecast.errors import ExportError, ModelError, is_out_of_memory, one_line
from prunecast.export.proof.prove import Found, exported_forms, results
from prunecast.export.proof.trial import InFloat64, Trial
from prunecast.models.families.family import Family

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def rehearse(config: "PreTrainedConfig", family: Family) -> None:
    """Check that a model whose first layer has no attention can be exported exactly.

    Args:
        config: config of the dense model; it is not changed.
        family: description of its family, as settled for it.

    Raises:
        ExportError: with the installed transformers, the modelling code of an export fails, does not compute the
            measured model, or computes something else with a cache than without.
        ModelError: the config class cannot be shrunk.
    """
    import transformers

    # The proof needs gradients, whatever the caller's mode.
    with torch.inference_mode(mode=False), torch.enable_grad(), torch.random.fork_rng(), InFloat64():
        try:
            wrong = next((f"{found.kind}: {found.wrong}" for found in _found(config, family) if found.wrong), "")
        except ModelError:
            raise
        # The code of another version of transformers can raise anything.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            wrong = f"it fails ({one_line(error)})"
    if wrong:
        raise ExportError(
            f"a {config.model_type} model without attention in its first layer cannot be exported with transformers "
            f"{transformers.__version__}: {wrong}; install another version of it, or leave export out"
        )


def _found(config: "PreTrainedConfig", family: Family) -> Iterator[Found]:
    return results(_without_attention, Trial(config, family))


def _without_attention(trial: Trial) -> Iterator[Found]:
    first, *others = trial.shape.dense.layers
    architecture = Architecture([Layer(0, 0, first.mlp_width), *(Layer(1, each[1], each[2]) for each in others)])
    return exported_forms(trial, architecture, thorough=True)
