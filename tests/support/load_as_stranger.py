"""Loads and runs exported folders, for the export tests, in a process that cannot import prunecast.

Usage: ``python -I load_as_stranger.py PLAN RESULTS``: PLAN is a JSON object of case name to folder, beside it
``prompts.safetensors`` with ``input_ids`` and a left-padded ``padded_ids`` with its ``padding_mask``. Writes
RESULTS.json and RESULTS.safetensors, one entry a case and question.
"""

import json
import sys
import tempfile
from pathlib import Path

sys.modules.update(dict.fromkeys(("prunecast", "prunecast_plugins")))

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, DynamicCache  # noqa: E402

NEW_TOKENS = 12


def load(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options).eval()


def complaint(loader, folder):
    """Error message of loading, or None if it succeeds."""
    try:
        loader.from_pretrained(folder)
    except Exception as error:  # noqa: BLE001  # any error is a result
        return f"{type(error).__name__}: {error}"
    return None


def generate(model, ids, **options):
    mask = options.pop("attention_mask", torch.ones_like(ids))
    length = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS}
    output = model.generate(ids, attention_mask=mask, do_sample=False, pad_token_id=0, **length, **options)
    return output[:, ids.shape[1] :].clone()


def step_by_step(model, ids):
    """Logits of each token fed alone; the model derives the positions from the cache."""
    cache = DynamicCache(config=model.config)
    return torch.cat([model(token, past_key_values=cache).logits for token in ids.split(1, dim=1)], dim=1)


def resaved(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load(folder)


def without_head(folder):
    """The model that ``AutoModel`` builds, and what its loading reports."""
    model, info = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    return model.eval(), {kind: sorted(map(str, found)) for kind, found in info.items()}


def texts(folder, model, info):
    stock = getattr(transformers, model.config.architectures[0].removeprefix("Pruned"))
    return {
        "loading": {kind: sorted(map(str, found)) for kind, found in info.items()},
        "parameters": model.num_parameters(),
        "model_type": model.config.model_type,
        "untrusted": complaint(AutoModelForCausalLM, folder),
        "stock": complaint(stock, folder),
        "base": complaint(AutoModel, folder),
        "loading without head": without_head(folder)[1],
        "tokens": AutoTokenizer.from_pretrained(folder, trust_remote_code=True)("w3 w5").input_ids,
        "untrusted tokenizer": complaint(AutoTokenizer, folder),
    }


def tensors(folder, model, ids, padded, mask):
    eager = load(folder, attn_implementation="eager")
    answers = {"eager": eager(ids).logits.clone()}
    eager.set_attn_implementation(model.config._attn_implementation)
    half = load(folder, dtype=torch.bfloat16, device_map="auto", max_memory={"cpu": "1GiB"})
    return answers | {
        "logits": model(ids).logits,
        "last hidden states": model(ids, output_hidden_states=True).hidden_states[-1],
        "hidden states without head": without_head(folder)[0](ids).last_hidden_state,
        "switched": eager(ids).logits,
        "bfloat16": half(ids).logits,
        "resaved": resaved(model)(ids).logits,
        "stepwise": step_by_step(model, ids),
        "greedy": generate(model, ids),
        "uncached": generate(model, ids, use_cache=False),
        "padded": generate(model, padded, attention_mask=mask),
        "padded uncached": generate(model, padded, attention_mask=mask, use_cache=False),
        "static": generate(model, padded, attention_mask=mask, cache_implementation="static"),
        "beams": generate(model, ids, num_beams=3),
        "beams uncached": generate(model, ids, num_beams=3, use_cache=False),
    }


def main(plan, results):
    torch.manual_seed(0)
    prompts = load_file(Path(plan).with_name("prompts.safetensors"))
    told, given = {}, {}
    for case, folder in json.loads(Path(plan).read_text()).items():
        model, info = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
        told[case] = texts(folder, model.eval(), info)
        with torch.inference_mode():
            answers = tensors(folder, model, **prompts)
        given |= {f"{case}/{question}": answer.contiguous() for question, answer in answers.items()}
    Path(f"{results}.json").write_text(json.dumps(told))
    save_file(given, f"{results}.safetensors")


main(*sys.argv[1:])
