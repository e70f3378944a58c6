"""Comparison of an exported folder with the measured model. Run as a script, in a process that cannot import prunecast.

Usage: ``python parity.py FOLDER PROBE``, where PROBE is a safetensors file with ``input_ids`` (int64, shape (B, T)),
the expected float32 ``logits`` (B, T, V) and, optionally, ``windows`` of a text (int64, shape (N, T)), and a ``prompt``
with its expected ``greedy`` continuation (both int64, shape (T,)). Prints one JSON object: ``problems``, a list of
messages, empty if there are none, ``max_logit_difference``, ``load_seconds``, the ``version`` of transformers, and
``text``, the numbers about the text as in :class:`prunecast.plugins.Parity`.
"""

import json
import math
import sys
import time
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig

GENERATED = 8
"""Number of tokens to generate."""

TOLERANCE = 1e-4
"""Largest allowed relative distance of logits; see :func:`distance`."""


def main(folder: str, probe_file: str) -> dict[str, Any]:
    """Compare the model in ``folder`` with the logits in ``probe_file``.

    Checks that it loads without missing or unexpected weights, has as many parameters as are stored, and returns the
    expected logits, with a KV cache the same as without.

    Returns:
        ``problems``, a list of messages, and ``max_logit_difference``, the largest absolute difference.
    """
    sys.modules.update(dict.fromkeys(("prunecast", "prunecast_plugins")))  # type: ignore[arg-type]  # None blocks an import
    # Computed in float32 whatever the stored dtype: in half precision the order of summation alone changes the logits.
    start = time.perf_counter()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True, dtype=torch.float32
    )
    model, report = loaded
    model.eval()
    load_seconds = time.perf_counter() - start
    probe = load_file(probe_file)
    problems = [f"{kind.replace('_', ' ')}: {sorted(map(str, found))[:3]}" for kind, found in report.items() if found]
    stored = stored_parameters(folder, {name for name, _ in model.named_buffers()})
    if model.num_parameters() != stored:
        problems.append(f"{model.num_parameters():,} parameters, the file holds {stored:,}")
    with torch.inference_mode():
        logits = model(probe["input_ids"]).logits.float()
        cached, uncached = generation_logits(model, probe["input_ids"][:2])
    if not (off := distance(logits, probe["logits"])) <= TOLERANCE:
        problems.append(f"logits are {off:.1e} (relative) from those of the measured model, {TOLERANCE:.0e} is allowed")
    if not (off := distance(cached, uncached)) <= TOLERANCE:
        problems.append(f"logits with a cache are {off:.1e} (relative) from those without, {TOLERANCE:.0e} is allowed")
    return {
        "problems": problems,
        "max_logit_difference": (logits - probe["logits"]).abs().max().item(),
        "load_seconds": load_seconds,
        "version": transformers.__version__,
        "text": text_numbers(model, probe["windows"], probe["prompt"], probe["greedy"]) if "windows" in probe else {},
    }


@torch.inference_mode()
def text_numbers(model: Any, windows: Tensor, prompt: Tensor, greedy: Tensor) -> dict[str, float]:
    """Perplexity of a text, agreement with a greedy continuation, and speed.

    Args:
        model: the exported model.
        windows: token ids of the text, int64 of shape (N, T).
        prompt: token ids, int64 of shape (T,).
        greedy: its expected continuation, int64 of shape (T,).
    """
    losses, start = 0.0, time.perf_counter()
    for window in windows:
        logits = model(window[None], use_cache=False).logits[0, :-1].float()
        losses += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    prefill = windows.numel() / (time.perf_counter() - start)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, num_beams=1, max_new_tokens=len(greedy), pad_token_id=0
    )
    start = time.perf_counter()
    # Without a mask, tokens equal to the padding token would be left out of the prompt.
    found = model.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]))[0, len(prompt) :]
    decode = len(greedy) / (time.perf_counter() - start)
    mean = losses / (windows.numel() - len(windows))
    return {
        "perplexity": math.exp(mean) if mean < 700 else math.inf,
        "greedy": len(greedy),
        "greedy_equal": int((found == greedy).long().cumprod(0).sum()),
        "prefill": prefill,
        "decode": decode,
    }


def stored_parameters(folder: str, buffers: set[str]) -> int:
    """Number of parameters in the weights file, which also has ``buffers``."""
    with safe_open(f"{folder}/model.safetensors", "pt") as file:
        names = [name for name in file.keys() if name not in buffers]  # noqa: SIM118  # it is no mapping
        return sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in names)


def generation_logits(model: Any, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the generated tokens: from ``generate`` with a KV cache, and from one full forward pass without.

    In all prompts but the first, the left third is masked as padding. Generation is greedy, and the model's own
    generation settings are not used.

    Args:
        model: the exported model.
        prompts: int64 token ids, shape (B, T).

    Returns:
        Two tensors of shape (B, GENERATED, V), in the dtype of the model's logits.
    """
    length = prompts.shape[1]
    mask = torch.ones(len(prompts), length + GENERATED, dtype=torch.int64)
    mask[1:, : length // 3] = 0
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=1,
        min_new_tokens=GENERATED,
        max_new_tokens=GENERATED,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    output = model.generate(prompts, attention_mask=mask[:, :length])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    full = model(output.sequences, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return torch.stack(output.logits, 1), full[:, length - 1 : -1]


def distance(logits: Tensor, expected: Tensor) -> float:
    """Euclidean distance relative to the norm of ``expected``."""
    return float((logits - expected).norm() / expected.norm())


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
