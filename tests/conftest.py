"""Small real models, made once a session, and the data sets at hand."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

if "PRUNECAST_DATA" not in os.environ and SHARED_DATA.is_dir():
    os.environ["PRUNECAST_DATA"] = str(SHARED_DATA)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test session writes to a cache of its own, never to the user's."""
    monkeypatch.setenv("PRUNECAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def tiny_config(family: str, **changes: object) -> object:
    """Config of a model with 3 layers of 4 KV groups x 2 heads of size 8, width 24."""
    from transformers import AutoConfig

    sizes: dict[str, object] = {
        "vocab_size": 97,
        "hidden_size": 64,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "tie_word_embeddings": family != "mistral",
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return AutoConfig.for_model(family, **(sizes | changes))


@pytest.fixture
def tiny_model() -> Callable[..., object]:
    """Maker of random models in float32, ``tiny_model("qwen2")``; biases and norms are random too."""
    import torch
    from transformers import AutoModelForCausalLM

    def make(family: str = "llama", seed: int = 0, **changes: object) -> object:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **changes))
        for parameter in model.parameters():
            parameter.data = torch.randn_like(parameter) * 0.2 + (1.0 if parameter.ndim == 1 else 0.0)
        return model.eval()

    return make
