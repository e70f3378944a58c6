"""One command for a machine with a GPU: does everything of prunecast work there, and how fast is it?

``make gpu-check`` prints one line for each check and exits with 1 if one has failed. It needs no network and at most
eight minutes; the packages are named in gpu_check.txt. Without a GPU it says so and exits with 2.
``python benchmarks/gpu_check.py --device cpu`` rehearses on the CPU all that needs no GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

MINUTES = 8.0
ROOT = Path(__file__).resolve().parents[1]

SPEC = """
model: {{source: smollm2-135m, device: {device}, dtype: {dtype}}}
space: {{use: layerwise, layers: "3:28"}}
pruner: {{use: magnitude}}
evaluators: [{{use: perplexity, dataset: python-docs, tokens: {tokens}, context: 512, batch: {batch}}}]
predictor: {{use: gbdt}}
searcher: {{use: random}}
budget: {{parameters: 0.75}}
"""

TOKENS = {"cuda": 16384, "cpu": 2048}
"""Tokens of an evaluation."""

SHORT = ("collect.pairs=8", "rounds=1", "per_round=2", "searcher.trials=5", "verify.top=1", "export=null")
"""Changes of the quickstart for a run of a few measurements."""

OF_THE_MACHINE = ("seconds", "workers", "run", "export", "exports", "evaluations")
"""Parts of a result that are not the same for all executors."""


class CheckError(Exception):
    """A check has failed; the message says what was found."""


def require(condition: bool, found: str) -> None:
    """Raise CheckError unless the condition holds."""
    if not condition:
        raise CheckError(found)


@dataclass(frozen=True)
class Machine:
    """Where the checks run.

    Attributes:
        device: the device, ``cuda`` or ``cpu``.
        folder: an empty folder.
        until: time on the monotonic clock at which all has to be done.
    """

    device: str
    folder: Path
    until: float

    def run(self, *command: str) -> str:
        """Standard output of a command of this Python. Raises CheckError if it fails or takes too long."""
        seconds = max(1.0, self.until - time.monotonic())
        try:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=self.folder,
                env=os.environ,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CheckError(f"not done after {MINUTES:.0f} minutes: {' '.join(command[:6])}") from error
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
            raise CheckError(f"exit status {done.returncode}: {lines[-1]}")
        return done.stdout

    def run_spec(self, registry: str, *arguments: str) -> dict[str, Any]:
        """Result of the quickstart on the device."""
        device = "auto" if self.device == "cuda" else self.device
        command = ("-m", "prunecast", "run", "quickstart", "--json", "--quiet", "--registry", registry)
        result: dict[str, Any] = json.loads(self.run(*command, "--set", f"model.device={device}", *arguments))
        return result

    @cached_property
    def measured_alone(self) -> dict[str, Any]:
        """Result of the short run in one process."""
        return self.run_spec("local.db", *changes(SHORT))

    def synchronize(self) -> None:
        """Wait for the device."""
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()


def changes(keys: tuple[str, ...]) -> list[str]:
    """Options of a command line that change a spec."""
    return [part for key in keys for part in ("--set", key)]


class Engines:
    """The engine of a spec on a device, with an architecture of 75 % and the dense one."""

    def __init__(self, device: str, dtype: str, batch: int = 4, tokens: int | None = None) -> None:
        from prunecast.compare.uniform import uniform
        from prunecast.measure.engine import Engine
        from prunecast.measure.setup import Setup
        from prunecast.plugins.host import PluginHost
        from prunecast.progress import Progress
        from prunecast.spec.load import parse_spec

        host = PluginHost.discover()
        self.setup = Setup(
            parse_spec(SPEC.format(device=device, dtype=dtype, tokens=tokens or TOKENS[device], batch=batch), host),
            host,
        )
        self.engine = Engine(self.setup, Progress(quiet=True))
        [self.named] = self.setup.evaluators
        problem = self.setup.problem
        limit = problem.budget.limits["parameters"]
        self.pruned = uniform(self.setup.shape, problem.space.choices, limit, attention=False)
        self.dense = self.setup.shape.dense

    def perplexities(self) -> tuple[float, float]:
        """Of the dense model and of the pruned one."""
        dense, pruned = (self.engine.measure(each, self.named)[0][0].value for each in (self.dense, self.pruned))
        return dense, pruned


def cuda_tests(machine: Machine) -> str:
    """The tests of the suite that look at the device."""
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "--rootdir", str(ROOT), "-c")
    tests = (str(ROOT / "tests" / "measure" / "test_device.py"), str(ROOT / "tests" / "measure" / "test_build.py"))
    printed = machine.run(*arguments, str(ROOT / "pyproject.toml"), *tests)
    require(machine.device != "cuda" or "needs a CUDA device" not in printed, "pytest sees no CUDA device")
    return printed.strip().splitlines()[-1].strip("= ")


def number_formats(machine: Machine) -> str:
    """Perplexities in bfloat16 and in float32 on the device, and in float32 on the CPU."""
    single, half = Engines(machine.device, "float32").perplexities(), Engines(machine.device, "bfloat16").perplexities()
    reference = Engines("cpu", "float32", tokens=TOKENS[machine.device]).perplexities()
    there, rounded = distance(single, reference), distance(half, single)
    found = f"float32 {100 * there:.3f} % from the CPU's, bfloat16 {100 * rounded:.2f} % from float32"
    require(there < 0.001 and rounded < 0.03, found)
    return found


def distance(found: tuple[float, ...], expected: tuple[float, ...]) -> float:
    """Largest relative difference."""
    return max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))


def engine(machine: Machine) -> str:
    """Seconds of an evaluation, against a plain evaluation of the dense model; numbers do not depend on reuse."""
    import torch

    engines = Engines(machine.device, "auto")
    first = engines.perplexities()
    seconds = {}
    for name, kept in (("dense", engines.dense), ("pruned", engines.pruned)):
        times = []
        for _ in range(3):
            # Another architecture in between, of which no layer is reused.
            other = engines.pruned if kept is engines.dense else engines.dense
            engines.engine.measure(other, engines.named)
            machine.synchronize()
            began = time.perf_counter()
            engines.engine.measure(kept, engines.named)
            machine.synchronize()
            times.append(time.perf_counter() - began)
        seconds[name] = min(times)
    require(engines.perplexities() == first, "numbers change when they are measured again")
    model = engines.engine.applied(engines.dense)
    tokens = TOKENS[machine.device]
    windows = torch.arange(tokens).view(-1, 512).remainder(engines.setup.shape.vocabulary).to(machine.device)

    def plainly() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            for batch in windows.split(4):
                logits = model(batch, use_cache=False).logits.float()
                torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten()).item()
        machine.synchronize()
        return time.perf_counter() - began

    plain = min(plainly() for _ in range(3))
    shares = ", ".join(f"{name} {each * 1000:.0f} ms" for name, each in seconds.items())
    found = f"{tokens:,} tokens in {engines.setup.dtype}: {shares}, plainly {plain * 1000:.0f} ms"
    require(seconds["dense"] < 1.5 * plain, found)
    return found


def quickstart(machine: Machine) -> str:
    """The whole quickstart, with its export."""
    result = machine.run_spec("quickstart.db", "--set", "export.path=" + json.dumps(str(machine.folder / "out")))
    best, dense = result["best"], result["dense"]
    [metric] = [name for name in best["metrics"] if ".test." in name]
    [uniform] = [each for each in result["baselines"] if each["name"] == "uniform-mlp"]
    require((machine.folder / "out" / "model.safetensors").is_file(), "no model was written")
    values = [each["metrics"][metric] for each in (dense, uniform, best)]
    require(values[0] < values[2] < 10 * values[0], f"perplexity {values[2]:.1f}, of the dense model {values[0]:.1f}")
    told = ", ".join(
        f"{name} {value:.2f}" for name, value in zip(("dense", "uniform-mlp", "best"), values, strict=True)
    )
    return f"{result['seconds']:.0f} s; perplexity {told}"


def out_of_memory(machine: Machine) -> str:
    """With little memory the batch is halved until it fits, and the number stays."""
    if machine.device != "cuda":
        return "left out: needs a GPU"
    import torch

    expected = Engines("cuda", "float32", batch=2).perplexities()
    large = Engines("cuda", "float32", batch=32)
    _ = large.engine.elastic
    torch.cuda.empty_cache()
    # The weights, and room for a few windows: activations of 32 windows in one MLP alone take 300 MiB.
    room = torch.cuda.memory_allocated() + 2**28
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / torch.cuda.get_device_properties(0).total_memory))
    try:
        found = large.perplexities()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    batch = large.named.evaluator.options.batch
    told = f"{room / 2**20:.0f} MiB: batch 32 became {batch}, perplexity {100 * distance(found, expected):.4f} % off"
    require(batch < 32 and distance(found, expected) < 1e-4, told)
    return told


def executed_by(name: str) -> Callable[[Machine], str]:
    """A check of an executor with one worker on the GPU against the process of the run."""

    def check(machine: Machine) -> str:
        options = ("executor.workers=1", *(("executor.threads=1",) if name == "processes" else ()))
        local = machine.measured_alone
        result = machine.run_spec(f"{name}.db", *changes((*SHORT, f"executor.use={name}", *options)))
        differing = [part for part in local if part not in OF_THE_MACHINE and result.get(part) != local[part]]
        answered = sum(result["workers"]["answered"].values())
        found = f"{answered} tasks in {result['seconds']:.0f} s, in one process {local['seconds']:.0f} s"
        require(not differing, f"another {', '.join(differing)} than in one process")
        require(not result["workers"]["lost"] and answered > 0, f"workers lost: {result['workers']['lost']}")
        return found

    check.__doc__ = f"The executor {name} with one GPU."
    return check


CHECKS: dict[str, Callable[[Machine], str]] = {
    "CUDA tests": cuda_tests,
    "number formats": number_formats,
    "engine": engine,
    "out of memory": out_of_memory,
    "quickstart": quickstart,
    "processes": executed_by("processes"),
    "ray": executed_by("ray"),
}


def outcome(check: Callable[[Machine], str], machine: Machine) -> tuple[bool, str]:
    """Whether a check holds, and what it found."""
    if time.monotonic() > machine.until:
        return False, f"not begun within {MINUTES:.0f} minutes"
    try:
        return True, check(machine)
    except Exception as error:  # noqa: BLE001  # whatever it is, the other checks go on
        return False, " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main() -> int:
    """Run the checks; returns the exit status."""
    parser = argparse.ArgumentParser(description="Checks of a machine with a GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="*", choices=CHECKS, default=list(CHECKS), metavar="CHECK")
    chosen = parser.parse_args()
    import torch

    if chosen.device == "cuda" and not torch.cuda.is_available():
        print(f"no GPU: torch {torch.__version__} sees no CUDA device, nothing was checked", file=sys.stderr)
        return 2
    os.environ.pop("RAY_ADDRESS", None)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    name = torch.cuda.get_device_name(0) if chosen.device == "cuda" else "the CPU, as a rehearsal"
    print(f"{name}, torch {torch.__version__}", flush=True)
    failed = []
    with TemporaryDirectory(prefix="gpu-check-") as folder:
        os.environ["PRUNECAST_CACHE"] = str(Path(folder) / "cache")
        machine = Machine(chosen.device, Path(folder), time.monotonic() + 60 * MINUTES)
        for check in chosen.only:
            began = time.monotonic()
            holds, found = outcome(CHECKS[check], machine)
            failed += [] if holds else [check]
            seconds = time.monotonic() - began
            print(f"{check:<16}{'ok' if holds else 'FAILED':<8}{seconds:6.1f} s  {found}", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "all checks hold", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
