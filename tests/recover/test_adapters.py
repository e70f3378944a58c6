"""Adapters on sliced models of every family: merged models compute the same as the trained ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sliced_models import CASES, IDS, elastic_of, random_importance, slice_stock

from prunecast.architecture.architecture import Architecture
from prunecast.errors import RecoveryError
from prunecast.export.sliced import SlicedFolder
from prunecast.recover.adapters import adapter_weights, attach, check_installed, merge
from prunecast.spec.recovery import PARTS
from prunecast.testing.models import family_of, shape_of

CPU = torch.device("cpu")
RANK, ALPHA = 2, 6


def sliced(model: Any, case: str, text: str | None = None) -> tuple[Architecture, Any]:
    """Architecture with a layer without attention and one without MLP, and a context manager that writes its folder."""
    groups = 8 if case.startswith(("gpt2", "opt")) else 4
    architecture = Architecture.parse(text or f"{groups}x1+24 0+7 2x1+0")
    elastic = elastic_of(model, random_importance(shape_of(model.config), 0))
    elastic.apply(architecture)
    return architecture, SlicedFolder.written(model.config, family_of(model.config), elastic.state_dict(), architecture)


def adapted(folder: SlicedFolder, model: Any, seed: int = 0, parts: tuple[str, ...] = PARTS) -> Any:
    loaded, family = folder.load(torch.float32, CPU), family_of(model.config)
    return attach(loaded, family, parts, rank=RANK, alpha=ALPHA, dropout=0.0, seed=seed)


@pytest.mark.parametrize("case", CASES)
def test_sliced_folder_holds_the_model_sliced_by_index_lists(tiny_model: Callable[..., Any], case: str) -> None:
    family, changes = CASES[case]
    model = tiny_model(family, **changes)
    architecture, written = sliced(model, case)
    expected = slice_stock(model, architecture, random_importance(shape_of(model.config), 0))
    with written as folder, torch.inference_mode():
        torch.testing.assert_close(folder.load(torch.float32, CPU)(IDS).logits, expected(IDS).logits)


@pytest.mark.parametrize("case", CASES)
def test_merged_model_is_the_adapted_one_for_every_family(tiny_model: Callable[..., Any], case: str) -> None:
    family, changes = CASES[case]
    model = tiny_model(family, **changes)
    with sliced(model, case)[1] as folder, torch.inference_mode():
        plain = folder.load(torch.float32, CPU)(IDS).logits
        trained = adapted(folder, model)
        torch.testing.assert_close(trained(IDS).logits, plain)
        for parameter in trained.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 8)
        expected = trained(IDS).logits
        assert (expected - plain).abs().max() > 1e-3
        merged = merge(adapted(folder, model), adapter_weights(trained))
        torch.testing.assert_close(merged(IDS).logits, expected, atol=1e-4, rtol=1e-4)
        assert {name for name, _ in merged.named_parameters()} == {
            name for name, _ in folder.load(torch.float32, CPU).named_parameters()
        }


def test_merged_weight_adds_the_product_scaled_by_alpha_over_rank(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with sliced(model, "llama")[1] as folder, torch.no_grad():
        trained = adapted(folder, model)
        layer = trained.base_model.model.model.layers[0].mlp.up_proj
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        b.copy_(torch.arange(b.numel(), dtype=torch.float32).view_as(b))
        expected = layer.base_layer.weight + ALPHA / RANK * (b @ a)
        merged = merge(adapted(folder, model), adapter_weights(trained))
        torch.testing.assert_close(merged.model.layers[0].mlp.up_proj.weight, expected)


def test_only_adapters_of_the_named_parts_are_trained(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with sliced(model, "llama")[1] as folder:
        trained = adapted(folder, model, parts=("query", "down"))
    names = {name for name, parameter in trained.named_parameters() if parameter.requires_grad}
    # The second layer has no attention, the third no MLP.
    homes = (
        "layers.0.self_attn.q_proj",
        "layers.0.mlp.down_proj",
        "layers.1.mlp.down_proj",
        "layers.2.self_attn.q_proj",
    )
    wanted = {f"base_model.model.model.{home}.lora_{half}.default.weight" for home in homes for half in "AB"}
    assert names == wanted


def test_adapters_use_their_seed_and_not_the_global_generator(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with sliced(model, "llama")[1] as folder:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        first, again, other = (adapter_weights(adapted(folder, model, seed)) for seed in (0, 0, 1))
        assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_an_architecture_without_a_target_is_an_error(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    with sliced(model, "llama", "0+24*3")[1] as folder, pytest.raises(RecoveryError, match=r"none of recover\.targets"):
        adapted(folder, model, parts=("query", "key"))


def test_missing_distribution_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(RecoveryError, match=r"needs peft: install it with pip install 'prunecast\[recover\]'"):
        check_installed("peft", "lora")
