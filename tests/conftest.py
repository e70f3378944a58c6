"""Small models with random weights, and workplaces that use them."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from workplace import TEXTS, Outcome, Workplace

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
# Threads that wait for each other take longer than all the arithmetic of a tiny model.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# transformers copies the code that comes with models there, from where other processes would take it, too.
MODULES = TemporaryDirectory(prefix="prunecast-modules-")
os.environ["HF_MODULES_CACHE"] = MODULES.name

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test session writes to its own cache, never to the user's."""
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
    if family == "opt":
        sizes["ffn_dim"] = sizes["intermediate_size"]
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


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama in float32, with texts beside it: 4 layers of 4 KV groups x 2 heads, width 24.

    Its tokens are single characters. It generated the texts itself, in pieces of 64, so that pruning raises its loss.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("checkpoint")
    specials = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    # The byte-level alphabet writes a space as \u0120.
    tokens = [*specials.values(), "\u0120", *(chr(code) for code in range(33, 127))]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials).save_pretrained(folder / "model")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config("llama", num_hidden_layers=4, vocab_size=len(tokens)))
    for parameter in model.parameters():
        parameter.data = torch.randn_like(parameter) * 0.15 + (1.0 if parameter.ndim == 1 else 0.0)
    model.generation_config.eos_token_id = [2, 1]  # as chat models have it: another than the config's
    model.save_pretrained(folder / "model")
    starts = torch.arange(len(specials), len(tokens))[:, None]
    for name in TEXTS:
        written = model.generate(starts, max_length=64, do_sample=True, suppress_tokens=[0, 1, 2], top_k=0)
        (folder / name).write_text(tokenizer.decode(written.flatten().tolist()))
    return folder / "model"


@pytest.fixture
def workplace(tmp_path: Path, tiny_checkpoint: Path) -> Workplace:
    """A folder with the tiny model, texts and ``tiny.yaml``, in which nothing has been run."""
    return Workplace.make(tmp_path / "workplace", tiny_checkpoint)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> tuple[Workplace, Outcome]:
    """A workplace where ``tiny.yaml`` has been run, and its output. Read-only: use a copy to change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRUNECAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        workplace = Workplace.make(tmp_path_factory.mktemp("finished"), tiny_checkpoint)
        return workplace, workplace.prunecast("run", "tiny.yaml", "--json")


@pytest.fixture
def continued(finished: tuple[Workplace, Outcome], workplace: Workplace) -> Workplace:
    """A workplace of its own with a copy of the registry of the finished run."""
    workplace.registry.write_bytes(finished[0].registry.read_bytes())
    return workplace
