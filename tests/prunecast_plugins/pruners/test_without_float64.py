"""Pruners on a device without float64, such as MPS: the same importances as on the CPU."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pretended_device import pretended_device

from prunecast.architecture.architecture import LayerImportance
from prunecast.testing.models import family_of
from prunecast_plugins.pruners.activation import Activation
from prunecast_plugins.pruners.calibrated import CalibratedOptions
from prunecast_plugins.pruners.flap import FLAP
from prunecast_plugins.pruners.magnitude import Magnitude, MagnitudeOptions
from prunecast_plugins.pruners.obs import OBS, OBSOptions
from prunecast_plugins.pruners.taylor import Taylor, TaylorOptions

TOKENS = torch.randint(3, 97, (7, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "pruner",
    [
        Activation(CalibratedOptions()),
        FLAP(CalibratedOptions()),
        Magnitude(MagnitudeOptions()),
        OBS(OBSOptions()),
        OBS(OBSOptions(outputs="alike")),
        Taylor(TaylorOptions()),
        Taylor(TaylorOptions(order="mixed")),
    ],
    ids=["activation", "flap", "magnitude", "obs", "obs-alike", "taylor", "taylor-mixed"],
)
def test_importances_equal_those_on_the_cpu(
    pruner: Any, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("qwen2")
    here = pruner.rank(model, family_of(model.config), TOKENS)
    with pretended_device(monkeypatch) as device:
        model = tiny_model("qwen2").to(device)
        there = pruner.rank(model, family_of(model.config), TOKENS.to(device))
    for mine, theirs in zip(here, there, strict=True):
        for part in LayerImportance.__dataclass_fields__:
            np.testing.assert_allclose(getattr(theirs, part), getattr(mine, part), rtol=1e-4)
