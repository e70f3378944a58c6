"""Exported folders in other versions of transformers, compared with the installed one.

Usage: ``python verify_versions.py 5.16.1,5.24.0 FOLDER...`` prints a Markdown table, and fails if a model does not load
with all of its weights or its logits, its greedy tokens or its tokenizer differ. Each version is installed into a
virtual environment in ``.venv-transformers``, which sees all other packages of this one.
"""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

ENVIRONMENTS = Path(".venv-transformers")
TEXT = "The river w3 w5 runs"


def answer(folder: str, file: str) -> None:
    """Store what this interpreter's transformers makes of a folder."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    kind = {"trust_remote_code": True, "dtype": torch.float32}
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **kind)
    if any(report.values()):
        raise ValueError(f"loading reports {report}")
    ids = torch.arange(2, 34).view(2, 16)
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        given = {
            "logits": model(ids).logits,
            "last hidden states": AutoModel.from_pretrained(folder, **kind)(ids).last_hidden_state,
            "greedy tokens": model.generate(ids, **options),
        }
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    given["token ids"] = torch.tensor(tokenizer(TEXT)["input_ids"])
    save_file({name: tensor.contiguous() for name, tensor in given.items()}, file)


def interpreter(wanted: str) -> Path:
    """The interpreter of an environment with a version of transformers, made if there is none."""
    folder = ENVIRONMENTS / wanted
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "shared.pth").write_text(sysconfig.get_path("purelib"))
        install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", f"transformers=={wanted}"]
        subprocess.run(install, check=True)
    return python


def asked(python: str | Path, folder: str, scratch: str) -> dict[str, torch.Tensor] | str:
    """Result of :func:`answer` in an interpreter, or the last line of its error."""
    file = Path(scratch, "answer.safetensors")
    file.unlink(missing_ok=True)
    done = subprocess.run([python, __file__, "answer", folder, file], capture_output=True, text=True, check=False)
    return load_file(file) if file.exists() else done.stderr.splitlines()[-1]


def verdict(found: dict[str, torch.Tensor] | str, expected: dict[str, torch.Tensor] | str) -> str:
    """``equal``, what differs, or the error."""
    if isinstance(found, str) or isinstance(expected, str):
        return str(found if isinstance(found, str) else expected)
    apart = float((found["logits"] - expected["logits"]).abs().max())
    differ = [name for name in expected if not torch.equal(found[name], expected[name])]
    return "equal" if not differ else f"{', '.join(differ)} (logits by {apart:.1e})"


def main(versions: str, *folders: str) -> int:
    """Print the table; 1 if anything differs, else 0."""
    import transformers

    print(f"| folder | version | against {transformers.__version__} |\n| --- | --- | --- |")
    verdicts = []
    with TemporaryDirectory() as scratch:
        for folder in folders:
            expected = asked(sys.executable, folder, scratch)
            for wanted in versions.split(","):
                verdicts.append(verdict(asked(interpreter(wanted), folder, scratch), expected))
                print(f"| {folder} | {wanted} | {verdicts[-1]} |", flush=True)
    return int(set(verdicts) != {"equal"})


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        answer(*sys.argv[2:])
    else:
        raise SystemExit(main(*sys.argv[1:]))
