"""Models with code of their own: compared with the stock class where it is trusted, run nowhere else."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_models import edit_config, logits_of
from workplace import Workplace

from prunecast.errors import ModelError
from prunecast.models.source import resolve_source
from prunecast.testing.models import shape_of

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "llama"


class OwnLlama(LlamaForCausalLM):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        CHANGE
"""

SAME = "self.own = True"
SCALED = "self.model.layers[1].mlp.act_fn = __import__('torch').nn.ReLU()"
FAILS = "import no_such_package"


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def asked(*prompt: object) -> str:
        raise AssertionError(f"asked on standard input: {prompt}")

    monkeypatch.setattr(builtins, "input", asked)


def with_code(folder: Path, change: str, config_too: bool = True) -> Path:
    (folder / "modeling_own.py").write_text(CODE.replace("CHANGE", change))
    classes = {"AutoModelForCausalLM": "modeling_own.OwnLlama"}
    edit_config(folder, auto_map=classes | ({"AutoConfig": "modeling_own.OwnConfig"} if config_too else {}))
    return folder


def load(folder: Path, trusted: bool) -> Any:
    return resolve_source(str(folder), trust_remote_code=trusted)


@pytest.mark.parametrize("config_too", [True, False])
def test_code_that_computes_the_same_gives_way_to_the_stock_class(saved: Path, config_too: bool) -> None:
    logits = logits_of(load(saved, False).load(torch.float32))
    source = load(with_code(saved, SAME, config_too), True)
    source.check_own_code("cpu")
    assert source.check() == []
    assert type(source.config()).__name__ == "LlamaConfig"
    assert shape_of(source.config()).family == "llama"
    model = source.load(torch.float32)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert torch.equal(logits_of(model), logits)


def test_code_that_computes_something_else_is_refused(saved: Path) -> None:
    source = load(with_code(saved, SCALED), True)
    with pytest.raises(
        ModelError, match=r"\(modeling_own.OwnLlama\) computes something else than LlamaForCausalLM"
    ) as e:
        source.check_own_code("cpu")
    assert "\n" not in str(e.value)


def test_code_that_fails_is_one_line(saved: Path) -> None:
    with pytest.raises(ModelError, match=r"no_such_package") as caught:
        load(with_code(saved, FAILS), True).check_own_code("cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [SAME, SCALED, FAILS])
def test_code_that_is_not_trusted_is_not_run_and_said_not_to_be(saved: Path, change: str) -> None:
    source = load(with_code(saved, f"{change}; raise SystemExit('ran')"), False)
    source.check_own_code("cpu")
    (note,) = source.check()
    assert "its own code (modeling_own.OwnLlama) is not run" in note
    assert type(source.load(torch.float32)).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_type_of_its_own_is_refused_without_running_its_code(saved: Path, trusted: bool) -> None:
    with_code(saved, "raise SystemExit('ran')")
    edit_config(saved, model_type="own-llama")
    with pytest.raises(ModelError, match="transformers has no class for type 'own-llama'") as caught:
        load(saved, trusted).config()
    assert "\n" not in str(caught.value)


def test_a_run_stops_before_it_measures(workplace: Workplace) -> None:
    import shutil

    shutil.copytree(workplace.folder / "model", workplace.folder / "own")
    with_code(workplace.folder / "own", SCALED)
    overrides = ("--set", "model.source=own", "--set", "model.trust_remote_code=true")
    for more in ((), ("--dry-run",)):
        outcome = workplace.prunecast("run", "tiny.yaml", *overrides, *more)
        assert outcome.code == 1
        assert "computes something else than LlamaForCausalLM" in outcome.stderr.splitlines()[-1]
    assert workplace.sql("SELECT count(*) FROM evaluations") == [(0,)]
