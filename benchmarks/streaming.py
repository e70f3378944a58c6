"""``python benchmarks/streaming.py FOLDER [1b|7b [PRUNER...]]``: memory and time of streaming and of the ordinary way.

Writes a Llama-shaped model with random weights in bfloat16 to the folder, of 1.1 or 6.7 billion parameters, and
measures in a process of its own each: calibration with flap, taylor and obs, and the evaluation of eight architectures,
together and, of 1b, one after another; of 7b by streaming alone. Memory is the peak of what is resident and not backed
by a file, above what it was before the model; it is printed as a ratio to the stored weights. The folder is removed at
the end.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FEW, MANY, ENOUGH = 2, 8, 20
"""Samples of calibration text for pruners with gradients and without."""

SHAPES = {
    "1b": {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 20, "num_attention_heads": 16},
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
}

PLACEMENTS = {"1b": ("one", "stream"), "7b": ("stream",)}
"""Placements to measure: 7 billion weights in float32 are more than most machines hold."""

SPEC = """
name: streaming
model: {{source: {model}, dtype: float32, device: cpu, placement: {placement}}}
space: {{use: layerwise}}
pruner: {{use: {pruner}, calibration: {{dataset: {text}, samples: {samples}, tokens: 128}}, compensate: {compensate}}}
evaluators: [{{use: perplexity, dataset: {text}, split: test, tokens: 512, context: 128, batch: 2}}]
predictor: {{use: gbdt}}
searcher: {{use: random}}
budget: {{parameters: 0.8}}
"""


def write_model(folder: Path, shape: str) -> None:
    """A Llama with random weights in bfloat16, a file for each layer, and a tokenizer with a token for each letter."""
    import torch
    from accelerate import init_empty_weights
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    config = LlamaConfig(**SHAPES[shape], vocab_size=32000, tie_word_embeddings=False, dtype=torch.bfloat16)
    with init_empty_weights():
        shapes = {name: each.shape for name, each in AutoModelForCausalLM.from_config(config).state_dict().items()}
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    files = {name: f"{'.'.join(name.split('.')[:3])}.safetensors" for name in shapes}
    for file in dict.fromkeys(files.values()):
        save_file(
            {name: random_weight(shapes[name], torch) for name in shapes if files[name] == file},
            folder / file,
            metadata={"format": "pt"},
        )
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def random_weight(shape: Any, torch: Any) -> Any:
    """A matrix with entries of standard deviation 0.02, or the ones of a norm, in bfloat16."""
    made = torch.ones(shape) if len(shape) == 1 else 0.02 * torch.randn(shape)
    return made.to(torch.bfloat16)


def measured(spec: str, what: str) -> dict[str, float]:
    """Peak memory in bytes and seconds of one action, in this process."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    import numpy as np
    from peak_memory import own_memory, watched

    from prunecast.architecture.choices import architectures_at
    from prunecast.measure.engine import Engine
    from prunecast.measure.setup import Setup
    from prunecast.plugins.host import PluginHost
    from prunecast.progress import Progress
    from prunecast.spec.load import parse_spec

    host = PluginHost.discover()
    setup = Setup(parse_spec(spec, host), host)
    (named,) = setup.evaluators
    setup.model_record.fingerprint, setup.pruner_record.key  # noqa: B018  # read all weights once
    engine = Engine(setup, Progress(quiet=True))
    values: list[float] = []
    before, began = own_memory(), time.perf_counter()
    with watched() as most:
        if what == "calibrate":
            engine.elastic  # noqa: B018
        else:
            sampled = setup.problem.space.sample(8, np.random.default_rng(0))
            architectures = architectures_at(setup.problem.space.choices, setup.shape.dense, sampled)
            if what == "evaluate":
                engine.expect([(architecture, named) for architecture in architectures])
            values += [engine.measure(architecture, named)[0][0].value for architecture in architectures]
    seconds = time.perf_counter() - began
    streamed = getattr(engine.elastic, "streamed", None)
    loads = streamed.loads if streamed else 0
    return {"bytes": most[0] - before, "seconds": seconds, "value": sum(values), "loads": loads}


def in_process(folder: Path, what: str, **settings: object) -> dict[str, float]:
    """As :func:`measured`, in a process of its own."""
    spec = SPEC.format(model=folder / "model", text=folder / "text.txt", **settings)
    environment = os.environ | {"PRUNECAST_CACHE": str(folder / f"cache-{settings['placement']}")}
    command = [sys.executable, __file__, "--measure", what, spec]
    found: dict[str, float] = json.loads(subprocess.run(command, env=environment, stdout=-1, check=True).stdout)
    return found


def main(folder: Path, shape: str, pruners: set[str]) -> None:
    """Measure with some of the pruners, all by default, and print a line each."""
    folder.mkdir(parents=True)
    try:
        write_model(folder / "model", shape)
        (folder / "text.txt").write_text("".join(f"The number {n} is followed by {n + 1}.\n" for n in range(4000)))
        stored = sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors"))
        print(f"stored weights {stored / 1e9:.2f} GB", flush=True)
        for pruner, samples in (("flap", MANY), ("taylor", FEW), ("obs", ENOUGH)):
            if pruners and pruner not in pruners:
                continue
            compensate = "bias" if pruner == "flap" else "none"
            for placement in PLACEMENTS[shape]:
                settings = {"placement": placement, "pruner": pruner, "samples": samples, "compensate": compensate}
                lines = {f"calibration {pruner}": in_process(folder, "calibrate", **settings)}
                if pruner == "flap":
                    lines["evaluation of 8"] = in_process(folder, "evaluate", **settings)
                    if placement == "stream" and shape == "1b":
                        lines["one after another"] = in_process(folder, "evaluate alone", **settings)
                for name, each in lines.items():
                    print(
                        f"{name:20} {placement:7} {each['bytes'] / stored:5.2f} x weights, {each['seconds']:6.1f} s, "
                        f"value {each['value']:.9g}, layers loaded {each['loads']}",
                        flush=True,
                    )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        print(json.dumps(measured(sys.argv[3], sys.argv[2])))
    else:
        main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "1b", set(sys.argv[3:]))
