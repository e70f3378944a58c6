"""A look at an exported model: what it writes."""

from typing import Any


def continue_text(folder: str, prompt: str, tokens: int = 24) -> str:
    """The prompt with its greedy continuation by the model in ``folder``, loaded as anyone would load it.

    The folder's own modelling code is run, which prunecast has just written there.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False)
    with torch.inference_mode():
        output = model.generate(
            **inputs, max_new_tokens=tokens, do_sample=False, repetition_penalty=1.3, pad_token_id=0
        )
    return " ".join(str(tokenizer.decode(output[0], skip_special_tokens=True)).split())
