"""Stock folders: loaded without code, and compared with a dense model in which the pruned parts are zeroed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pruned_families import prune
from slow_cases import slow_but
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    OlmoConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SmolLM3Config,
)

from prunecast.architecture.architecture import Architecture
from prunecast.errors import ExportError
from prunecast.export.card import CardContent
from prunecast.export.deliver import Deliverable, deliver, pruned_model
from prunecast.export.stock import Stock, StockOptions
from prunecast.models.source import ModelSource
from prunecast.plugins.exporter import Reference
from prunecast.testing.models import byte_tokenizer, family_of, shape_of

STOCK = Stock(StockOptions())
CARD = CardContent("tiny", None, "name: tiny", ("model",), [("this",)], "none")
SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
CASES = {
    "llama": (LlamaConfig(**SIZES), "2x1+17*4"),
    "llama-tied-layer-gone": (LlamaConfig(**SIZES, tie_word_embeddings=True), "2x2+48 0+0 2x2+48*2"),
    "llama-biases": (LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True), "0+0 4x2+20*3"),
    "qwen2": (Qwen2Config(**SIZES), "4x1+30*4"),
    "gemma2-windows": (Gemma2Config(**SIZES, head_dim=8, sliding_window=8), "0+0*2 2x2+40*2"),
    "smollm3-no-rope": (SmolLM3Config(**SIZES, no_rope_layers=[1, 0, 1, 0]), "3x2+40 0+0 3x2+40*2"),
    "gpt2-mlp": (
        GPT2Config(vocab_size=256, n_embd=64, n_head=8, n_layer=3, n_inner=48, n_positions=64, initializer_range=0.2),
        "8x1+20 0+0 8x1+20",
    ),
    "olmo": (OlmoConfig(**SIZES), "4x2+9 0+0*2 4x2+9"),
}


NEO = GPTNeoConfig(vocab_size=64, hidden_size=32, num_heads=4, num_layers=2, attention_types=[[["global", "local"], 1]])


def exported(config: Any, architecture: str, folder: Path, state: Any = None) -> Any:
    """Export a pruned model; returns it with the report."""
    pruned = prune(config, architecture)
    chosen = Deliverable(pruned.zeroed, state or pruned.state, pruned.architecture)
    source = ModelSource("folder", "tiny", folder.parent / "dense")
    model = pruned_model("tiny", config, family_of(config), chosen, byte_tokenizer(), source)
    reference = Reference(pruned.logits, tuple(range(2, 60)), (), 64)
    return pruned, deliver(STOCK, "stock", model, CARD, folder, reference)


DAILY = ("llama", "gpt2-mlp", "gemma2-windows")


@pytest.mark.parametrize("case", slow_but(DAILY, CASES))
def test_a_stock_class_loads_the_pruned_model(case: str, tmp_path: Path) -> None:
    config, architecture = CASES[case]
    limits = STOCK.limits(config, family_of(config), shape_of(config))
    assert limits.problem(Architecture.parse(architecture)) is None
    pruned, report = exported(config, architecture, tmp_path / "model")
    loaded, found = AutoModelForCausalLM.from_pretrained(report.folder, output_loading_info=True)
    assert type(loaded) is type(pruned.zeroed)
    assert not any(found.values())
    assert not list(report.folder.glob("*.py"))
    ids = torch.arange(2, 42)[None]
    with torch.inference_mode():
        torch.testing.assert_close(loaded.eval()(ids).logits, pruned.logits(ids), rtol=1e-4, atol=1e-4)
    assert loaded.num_parameters() == report.parameters
    assert report.parity.greedy == report.parity.greedy_equal
    assert report.parity.perplexity == pytest.approx(report.parity.reference_perplexity, rel=1e-4)


def test_a_folder_loads_in_a_process_without_prunecast_that_trusts_no_code(tmp_path: Path) -> None:
    _, report = exported(*CASES["llama"], tmp_path / "model")
    script = (
        "import sys; sys.modules['prunecast'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "tokens = AutoTokenizer.from_pretrained(sys.argv[1])('a b', return_tensors='pt')\n"
        "print(type(model).__name__, model.generate(**tokens, max_new_tokens=3, do_sample=False).shape[1])"
    )
    command = [sys.executable, "-c", script, str(report.folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert found.stdout.split() == ["LlamaForCausalLM", "6"]
    assert json.loads((report.folder / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize(
    ("config", "architecture", "problem"),
    [
        (CASES["llama"][0], "4x2+48 4x2+47 4x2+48*2", "its layers differ in size"),
        (CASES["llama"][0], "0+48*4", "has no layers without attention"),
        (CASES["llama"][0], "4x2+0*4", "has no layers without MLP"),
        (CASES["llama"][0], "0+0*4", "it has no layer"),
        (CASES["llama"][0], "3x1+48*4", "does not build layers of 3x1+48"),
        (CASES["gpt2-mlp"][0], "6x1+48*3", "GPT2Config does not build layers of 6x1"),
        (CASES["gemma2-windows"][0], "0+0 4x2+48*3", None),
        (NEO, "2x1+128*2", "does not build layers"),
        (CohereConfig(**SIZES), "2x2+48*4", None),
    ],
)
def test_limits(config: Any, architecture: str, problem: str | None) -> None:
    limits = STOCK.limits(config, family_of(config), shape_of(config))
    found = limits.problem(Architecture.parse(architecture))
    assert (found is None) if problem is None else (problem in (found or ""))


def test_biases_of_compensation_have_a_place_where_the_class_has_one(tmp_path: Path) -> None:
    config, architecture = CASES["llama"]
    pruned = prune(config, architecture)
    name = "model.layers.1.self_attn.o_proj.bias"
    bias = torch.linspace(-1, 1, 64)
    layer = pruned.zeroed.model.layers[1].self_attn.o_proj
    layer.bias = torch.nn.Parameter(bias)
    chosen = Deliverable(pruned.zeroed, {**pruned.state, name: bias}, pruned.architecture)
    source = ModelSource("folder", "tiny", tmp_path / "dense")
    model = pruned_model("tiny", config, family_of(config), chosen, byte_tokenizer(), source)
    report = deliver(STOCK, "stock", model, CARD, tmp_path / "model", Reference(pruned.logits, (), (), 64))
    loaded = AutoModelForCausalLM.from_pretrained(report.folder)
    assert loaded.model.layers[1].self_attn.o_proj.bias.equal(bias)
    assert loaded.model.layers[0].self_attn.q_proj.bias.count_nonzero() == 0


@pytest.mark.parametrize(
    ("config", "biases"),
    [
        (CASES["llama"][0], {"attention", "mlp"}),
        (CASES["gpt2-mlp"][0], {"attention", "mlp"}),
        (CASES["olmo"][0], {"attention"}),
        (CASES["qwen2"][0], set()),
    ],
)
def test_limits_tell_which_outputs_may_have_a_bias(config: Any, biases: set[str]) -> None:
    assert STOCK.limits(config, family_of(config), shape_of(config)).biases == biases


def test_a_bias_without_a_place_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    config, architecture = CASES["qwen2"]
    state = prune(config, architecture).state | {"model.layers.0.mlp.down_proj.bias": torch.ones(64)}
    with pytest.raises(ExportError, match=r"has no place for model\.layers\.0\.mlp\.down_proj\.bias: compensate"):
        exported(config, architecture, tmp_path / "model", state)
    assert not (tmp_path / "model").exists()


def test_another_target_in_the_folder_is_refused(tmp_path: Path) -> None:
    _, report = exported(*CASES["llama"], tmp_path / "model")
    shutil.copytree(report.folder, tmp_path / "copy")
    from prunecast.export.huggingface import HuggingFace, HuggingFaceOptions
    from prunecast.owned.manifest import Origin

    config, architecture = CASES["llama"]
    pruned = prune(config, architecture)
    chosen = Deliverable(pruned.zeroed, pruned.state, pruned.architecture)
    source = ModelSource("folder", "tiny", tmp_path / "dense")
    model = pruned_model("tiny", config, family_of(config), chosen, byte_tokenizer(), source)
    origin = Origin(subject={"target": "gguf"})
    with pytest.raises(ExportError, match="of another target"):
        deliver(
            HuggingFace(HuggingFaceOptions()),
            "huggingface",
            model,
            CARD,
            report.folder,
            Reference(pruned.logits, (), (), 64),
            origin=origin,
        )


def test_tokenizer_is_a_stock_one(tmp_path: Path) -> None:
    _, report = exported(*CASES["llama"], tmp_path / "model")
    assert isinstance(PreTrainedTokenizerFast.from_pretrained(report.folder), PreTrainedTokenizerFast)
