"""Architectures that transformers does not have: their classes, their code in keys and exports, and trust."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_models import edit_config
from workplace import Workplace

from prunecast.errors import ModelError
from prunecast.models.described import described
from prunecast.models.families.own_classes import code_files
from prunecast.models.families.sizes import shape_of
from prunecast.models.pruned.classes import base_type, code_hash_of, modeling_code
from prunecast.models.source import resolve_source
from prunecast.plugins.examples import family as example
from prunecast.plugins.families import families_of, read_family
from prunecast.plugins.host import PluginHost

CODE = Path(example.__file__)
DESCRIPTION = CODE.with_suffix(".yaml")

REGISTERED = ("plain", "prunecast-plain")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """transformers knows none of these types before a test, and none after it."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    yield
    own: Any = CONFIG_MAPPING
    for kind in REGISTERED:
        if (known := own._extra_content.pop(kind, None)) is not None:
            MODEL_FOR_CAUSAL_LM_MAPPING._extra_content.pop(known, None)


@pytest.fixture
def own(workplace: Workplace) -> Path:
    """Folder of a model of type plain, with its code, in the workplace."""
    folder = workplace.folder / "own"
    torch.manual_seed(0)
    config = example.PlainConfig(vocab_size=98, num_hidden_layers=3, eos_token_id=2)
    example.PlainForCausalLM(config).save_pretrained(folder)
    shutil.copy(CODE, folder / "modeling_plain.py")
    for file in (workplace.folder / "model").glob("*token*"):
        shutil.copy(file, folder)
    edit_config(
        folder,
        auto_map={
            "AutoConfig": "modeling_plain.PlainConfig",
            "AutoModelForCausalLM": "modeling_plain.PlainForCausalLM",
        },
    )
    return folder


def describe(folder: Path, trusted: bool = True) -> Any:
    source = resolve_source(str(folder), trust_remote_code=trusted)
    return described(source, families_of(PluginHost(), read_family(DESCRIPTION)))


def test_trusted_code_of_a_type_that_transformers_lacks_is_what_is_pruned(own: Path) -> None:
    config, family = describe(own)
    assert type(config).__module__.startswith("transformers_modules.")
    shape = shape_of(config, family)
    model = resolve_source(str(own), trust_remote_code=True).load(torch.float32)
    assert int(shape.count([shape.dense])[0]) == model.num_parameters()
    ids = torch.arange(2, 40)[None]
    expected = example.PlainForCausalLM.from_pretrained(own)(ids).logits
    assert torch.equal(model(ids).logits, expected)


def test_code_that_is_not_trusted_is_not_run(own: Path) -> None:
    (own / "modeling_plain.py").write_text("raise SystemExit('it has been run')")
    with pytest.raises(ModelError, match="transformers has no class for type 'plain': set trust_remote_code: true"):
        describe(own, trusted=False)


def test_trust_in_one_model_is_none_in_another_of_its_type(own: Path) -> None:
    describe(own)
    with pytest.raises(ModelError, match="set trust_remote_code: true"):
        describe(own, trusted=False)


@pytest.mark.parametrize(
    ("code", "reason"),
    [("import no_such_module_anywhere", "no_such_module_anywhere"), ("X = 1", "PlainConfig"), ("x = = 1", "syntax")],
)
def test_code_that_fails_is_one_line(code: str, reason: str, own: Path) -> None:
    (own / "modeling_plain.py").write_text(code)
    with pytest.raises(ModelError) as caught:
        describe(own)
    message = str(caught.value)
    assert message.startswith(f"model {own}: its own code, needed for type 'plain', cannot be loaded (")
    assert reason in message
    assert "\n" not in message


def test_the_code_is_hashed_with_what_it_imports(tmp_path: Path, own: Path) -> None:
    config, _ = describe(own)
    before = code_hash_of(config)
    file = own / "modeling_plain.py"
    file.write_text(file.read_text() + "\nCHANGED = True\n")
    assert before is not None
    assert code_hash_of(describe(own)[0]) not in (before, None)
    (own / "more.py").write_text("Y = 1")
    file.write_text(file.read_text() + "\nfrom .more import Y\n")
    assert {path.name for path in code_files(type(describe(own)[0]))} == {"modeling_plain.py", "more.py"}


def test_classes_of_transformers_have_no_code_of_their_own(tiny_model: Any) -> None:
    config = tiny_model("llama").config
    assert code_files(type(config)) == []
    assert code_hash_of(config) is None


def test_an_export_imports_from_beside_it(own: Path) -> None:
    config, family = describe(own)
    code = modeling_code(config, family, beside=True)
    classes = "PlainConfig, PlainForCausalLM, PlainModel"
    assert f"from transformers import Cache\n\nfrom .modeling_plain import {classes}\n" in code
    assert "llama" not in code.lower()


def test_an_export_has_no_class_without_head_where_the_original_has_none(own: Path) -> None:
    assert base_type(*describe(own)).__name__ == "PlainModel"
    code = own / "modeling_plain.py"
    code.write_text(code.read_text().replace('base_model_prefix = "model"', 'base_model_prefix = ""'))
    config, family = describe(own)
    assert base_type(config, family) is None
    text = modeling_code(config, family, beside=True)
    assert "class PrunedPlainForCausalLM(" in text
    assert "PlainModel" not in text


def test_text_of_a_description_cannot_become_code(own: Path) -> None:
    from dataclasses import replace

    config, family = describe(own)
    for text in ("""\\' "; import os #""", "a\nimport os", "\\n\\1\\g<0>"):
        code = modeling_code(config, replace(family, gate=text), beside=True)
        assigned: dict[str, Any] = {}
        exec(next(line for line in code.splitlines() if line.startswith("GATE = ")), assigned)
        assert assigned["GATE"] == text


def elsewhere(folder: Path) -> int:
    """Number of parameters of a model that a process loads, with its head and without, which has no prunecast."""
    code = """if True:
        import sys
        import torch
        from transformers import AutoModel, AutoModelForCausalLM
        sys.modules["prunecast"] = None
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
        base = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
        ids = torch.arange(8)[None]
        assert torch.equal(model.lm_head(base(ids).last_hidden_state), model(ids).logits)
        print(model.num_parameters())
    """
    done = subprocess.run([sys.executable, "-P", "-c", code, str(folder)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_a_run_of_an_own_architecture_and_one_of_its_result(own: Path, workplace: Workplace) -> None:
    shutil.copy(DESCRIPTION, workplace.folder / "plain.yaml")
    model = {"source": "own", "family": "plain.yaml", "trust_remote_code": True, "dtype": "float32"}
    short = {"collect": {"pairs": 4}, "rounds": 1, "per_round": 1, "verify": {"top": 1}, "baselines": []}
    workplace.write_spec("first", {**short, "name": "first", "model": model, "export": {"path": "first"}})
    again = {**model, "source": "first"}
    workplace.write_spec("second", {**short, "name": "second", "model": again, "export": {"path": "second"}})
    for name in ("first", "second"):
        outcome = workplace.prunecast("run", f"{name}.yaml", "--json")
        assert outcome.code == 0, outcome.stderr
    dense = example.PlainForCausalLM.from_pretrained(own).num_parameters()
    first, second = (elsewhere(workplace.folder / name) for name in ("first", "second"))
    assert second < first < dense
    assert (workplace.folder / "second/modeling_plain.py").read_text() == CODE.read_text()
    found = workplace.prunecast("runs", "show", "1", "--json").json
    assert found["spec"]["model"]["family"] == "plain.yaml"


def pairs_found(workplace: Workplace) -> int:
    """Number of the pairs of ``own.yaml`` that the registry has."""
    plan = workplace.prunecast("run", "own.yaml", "--json", "--dry-run").json
    return next(int(step["cached"]) for step in plan["steps"] if step["stage"] == "pairs")


def test_the_description_and_the_code_are_in_the_keys_of_what_is_measured(own: Path, workplace: Workplace) -> None:
    description = workplace.folder / "plain.yaml"
    shutil.copy(DESCRIPTION, description)
    model = {"source": "own", "family": "plain.yaml", "trust_remote_code": True, "dtype": "float32"}
    short = {"collect": {"pairs": 4}, "rounds": 1, "per_round": 1, "verify": {"top": 1}, "baselines": []}
    workplace.write_spec("own", {**short, "model": model, "export": None})
    assert workplace.prunecast("run", "own.yaml").code == 0
    assert pairs_found(workplace) == 4
    written, code = description.read_text(), own / "modeling_plain.py"
    description.write_text(f"# A comment.\n{written}variants: [{{when: {{hidden_size: 1}}, change: {{bos: true}}}}]\n")
    assert pairs_found(workplace) == 4, "what is used of it has not changed"
    description.write_text(f"{written}per_head: [bias]\n")
    assert pairs_found(workplace) == 0
    description.write_text(written)
    code.write_text(f"{CODE.read_text()}\n# Edited.\n")
    assert pairs_found(workplace) == 0
    code.write_text(CODE.read_text())
    assert pairs_found(workplace) == 4
