"""``python benchmarks/streaming.py FOLDER [LAYERS [PRUNER...]]``: memory and time of streaming and of the ordinary way.

Writes a Llama-shaped model with random weights in bfloat16 to the folder, of 1.1 billion parameters with 20 layers, and
measures in a process of its own each: calibration with flap, taylor and obs, and the evaluation of eight architectures.
Memory is the peak of what is resident and not backed by a file, above what it was before the model; it is printed as a
ratio to the stored weights. The folder is removed at the end.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FEW, MANY, ENOUGH = 2, 8, 20
"""Samples of calibration text for pruners with gradients and without."""

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


def write_model(folder: Path, layers: int) -> None:
    """A Llama of width 2,048 with random weights in bfloat16, and a tokenizer with a token for each letter."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    config = LlamaConfig(
        hidden_size=2048,
        intermediate_size=5504,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=32000,
        tie_word_embeddings=False,
    )
    config.dtype = torch.bfloat16
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


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
            engine.expect([(architecture, named) for architecture in architectures])
            values += [engine.measure(architecture, named)[0][0].value for architecture in architectures]
    seconds = time.perf_counter() - began
    brought = getattr(getattr(engine.elastic, "streamed", None), "brought", 0)
    return {"bytes": most[0] - before, "seconds": seconds, "value": sum(values), "brought": brought}


def in_process(folder: Path, what: str, **settings: object) -> dict[str, float]:
    """As :func:`measured`, in a process of its own."""
    spec = SPEC.format(model=folder / "model", text=folder / "text.txt", **settings)
    environment = os.environ | {"PRUNECAST_CACHE": str(folder / f"cache-{settings['placement']}")}
    command = [sys.executable, __file__, "--measure", what, spec]
    found: dict[str, float] = json.loads(subprocess.run(command, env=environment, stdout=-1, check=True).stdout)
    return found


def main(folder: Path, layers: int, pruners: set[str]) -> None:
    """Measure with some of the pruners, all by default, and print a line each."""
    folder.mkdir(parents=True)
    try:
        write_model(folder / "model", layers)
        (folder / "text.txt").write_text("".join(f"The number {n} is followed by {n + 1}.\n" for n in range(4000)))
        stored = sum(file.stat().st_size for file in (folder / "model").glob("*.safetensors"))
        print(f"stored weights {stored / 1e9:.2f} GB", flush=True)
        for pruner, samples in (("flap", MANY), ("taylor", FEW), ("obs", ENOUGH)):
            if pruners and pruner not in pruners:
                continue
            compensate = "bias" if pruner == "flap" else "none"
            for placement in ("one", "stream"):
                settings = {"placement": placement, "pruner": pruner, "samples": samples, "compensate": compensate}
                lines = {f"calibration {pruner}": in_process(folder, "calibrate", **settings)}
                if pruner == "flap":
                    lines["evaluation of 8"] = in_process(folder, "evaluate", **settings)
                for name, each in lines.items():
                    print(
                        f"{name:20} {placement:7} {each['bytes'] / stored:5.2f} x weights, {each['seconds']:6.1f} s, "
                        f"value {each['value']:.9g}, layers brought {each['brought']}",
                        flush=True,
                    )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        print(json.dumps(measured(sys.argv[3], sys.argv[2])))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20, set(sys.argv[3:]))
