"""An exported folder in the libraries that people load it with: pipelines, LoRA, chat templates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pruned_families import CASES, VOCABULARY, prune
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, pipeline

from prunecast.export.card import CardContent
from prunecast.export.deliver import Deliverable, deliver, pruned_model
from prunecast.export.huggingface import HuggingFace, HuggingFaceOptions
from prunecast.models.source import ModelSource
from prunecast.plugins.exporter import Reference
from prunecast.testing.models import family_of

CHAT = [{"role": "user", "content": "w3 w5"}, {"role": "assistant", "content": "w7"}]
TEMPLATE = "{% for message in messages %}{{ message.role }} says w1 {{ message.content }} w2 {% endfor %}"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="w0", pad_token="w0", eos_token="w2", chat_template=TEMPLATE
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """An export of a model that has lost an attention and an MLP, with stand-ins."""
    pruned = prune(*CASES["llama-mixed"])
    out = tmp_path_factory.mktemp("exports") / "model"
    source = ModelSource("folder", "tiny", out.parent / "dense")
    chosen = Deliverable(pruned.zeroed, pruned.state, pruned.architecture)
    model = pruned_model("tiny", pruned.config, family_of(pruned.config), chosen, tokenizer, source)
    card = CardContent("tiny", None, "model: {source: tiny}\n", ("model", "ppl"), [("dense", 28.8)], "WikiText-2.")
    exporter = HuggingFace(HuggingFaceOptions(stand_ins=True))
    deliver(exporter, "huggingface", model, card, out, Reference(pruned.logits, (), (), 128))
    return out


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


def test_the_folder_keeps_the_true_architecture_and_its_card_tells_of_the_stand_ins(folder: Path) -> None:
    pruned = prune(*CASES["llama-mixed"])
    assert (folder / "architecture.json").read_text() == pruned.architecture.to_json() + "\n"
    assert load(folder).config.per_layer_config[0].num_attention_heads == 1
    assert "1 layer has no attention; the folder has stand-ins" in (folder / "README.md").read_text()


def test_a_pipeline_generates_what_the_model_does(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    generator = pipeline("text-generation", model=str(folder), trust_remote_code=True)
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    (answer,) = generator("w3 w5 w7", return_tensors=True, **options)
    ids = torch.tensor([[3, 5, 7]])
    expected = load(folder).generate(ids, pad_token_id=0, **options)[0]
    assert answer["generated_token_ids"][-8:] == expected[-8:].tolist()


def test_a_chat_is_written_as_with_the_tokenizer_of_the_source(
    folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    assert loaded.apply_chat_template(CHAT, tokenize=False) == "user says w1 w3 w5 w2 assistant says w1 w7 w2 "
    assert loaded.apply_chat_template(CHAT) == tokenizer.apply_chat_template(CHAT)


def test_an_adapter_is_trained_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    ids = torch.randint(1, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    targets = ["q_proj", "v_proj", "gate_proj", "down_proj"]
    model = peft.get_peft_model(load(folder), peft.LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    before = model(ids).logits.detach()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-2)
    losses = []
    for _ in range(3):
        loss = model(ids, labels=ids).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(folder), tmp_path / "adapter").eval()
    with torch.inference_mode():
        trained = model.eval()(ids).logits
        torch.testing.assert_close(again(ids).logits, trained)
        torch.testing.assert_close(again.merge_and_unload()(ids).logits, trained, rtol=1e-4, atol=1e-4)
    assert (trained - before).abs().max() > 0.01
