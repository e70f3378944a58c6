"""Model sources and fingerprints."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from saved_models import edit_config, edit_weights, write_gguf

from prunecast.errors import ModelError
from prunecast.models import fingerprint as fingerprints
from prunecast.models.source import ModelSource, resolve_source

Maker = Callable[..., Any]


pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_loaded_model_computes_the_same_as_the_saved_one(tiny_model: Maker, tmp_path: Path, family: str) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path / "model")
    loaded = resolve_source(str(tmp_path / "model")).load(torch.float32)
    ids = torch.arange(10)[None]
    with torch.inference_mode():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert not loaded.training


def test_weights_are_loaded_in_the_requested_dtype(saved: Path) -> None:
    model = resolve_source(str(saved)).load(torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_changing_a_loaded_model_leaves_its_file_alone(saved: Path) -> None:
    before = (saved / "model.safetensors").read_bytes()
    with torch.no_grad():
        for parameter in resolve_source(str(saved)).load(torch.float32).parameters():
            parameter.zero_()
    assert (saved / "model.safetensors").read_bytes() == before


def test_nothing_is_written_without_a_terminal(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = resolve_source(str(saved))
    source.load(torch.float32)
    source.fingerprint()
    assert capfd.readouterr() == ("", "")


def test_generation_config_is_found_if_present(saved: Path) -> None:
    file = resolve_source(str(saved)).generation_file
    assert file == saved / "generation_config.json"
    file.unlink()
    assert resolve_source(str(saved)).generation_file is None


def test_shards_do_not_change_the_fingerprint(tiny_model: Maker, tmp_path: Path) -> None:
    model = tiny_model("qwen2")
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    one, many = (resolve_source(str(tmp_path / name)) for name in ("one", "many"))
    assert one.fingerprint() == many.fingerprint()
    assert len(one.fingerprint()) == 32


def test_order_of_tensors_does_not_change_the_fingerprint(saved: Path, tmp_path: Path) -> None:
    before = fingerprints.fingerprint(saved)
    weights = load_file(saved / "model.safetensors")
    names = list(reversed(weights))
    half = len(names) // 2
    files = {"b.safetensors": names[:half], "a.safetensors": names[half:]}
    for file, held in files.items():
        save_file({name: weights[name] for name in held}, saved / file)
    (saved / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, held in files.items() for name in held}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    assert fingerprints.fingerprint(saved) == before


def test_one_changed_weight_changes_the_fingerprint(saved: Path) -> None:
    before = fingerprints.fingerprint(saved)

    def nudge(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["model.norm.weight"][0] += 1e-6
        return weights

    edit_weights(saved, nudge)
    assert fingerprints.fingerprint(saved) != before


def test_swapped_tensors_change_the_fingerprint(saved: Path) -> None:
    before = fingerprints.fingerprint(saved)
    gate, up = "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"
    edit_weights(saved, lambda weights: weights | {gate: weights[up], up: weights[gate]})
    assert fingerprints.fingerprint(saved) != before


@pytest.mark.parametrize(
    ("changes", "same"),
    [({"rms_norm_eps": 1e-3}, False), ({"transformers_version": "9", "dtype": "float16", "_name_or_path": "x"}, True)],
)
def test_config_values_change_the_fingerprint_unless_volatile(
    saved: Path, changes: dict[str, object], same: bool
) -> None:
    before = fingerprints.fingerprint(saved)
    edit_config(saved, **changes)
    assert (fingerprints.fingerprint(saved) == before) == same


def test_custom_model_code_changes_the_fingerprint(saved: Path) -> None:
    edit_config(saved, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    (saved / "modeling.py").write_text("scale = 1\n")
    before = fingerprints.fingerprint(saved)
    (saved / "modeling.py").write_text("scale = 2\n")
    assert fingerprints.fingerprint(saved) != before


def test_fingerprint_is_cached_by_file_identity(saved: Path, cache: Path) -> None:
    before = fingerprints.fingerprint(saved)
    weights = saved / "model.safetensors"
    stat = weights.stat()
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    with weights.open("r+b") as file:
        file.write(damaged)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fingerprints.fingerprint(saved) == before, "not taken from the cache"
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert fingerprints.fingerprint(saved) != before, "a new modification time was not seen"


@pytest.mark.parametrize("content", ["", "[1]", '{"half'])
def test_damaged_fingerprint_cache_is_rebuilt(saved: Path, cache: Path, content: str) -> None:
    before = fingerprints.fingerprint(saved)
    (cache / "fingerprints.json").write_text(content)
    assert fingerprints.fingerprint(saved) == before
    assert json.loads((cache / "fingerprints.json").read_text())


def test_fingerprint_works_without_a_writable_cache(saved: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert len(fingerprints.fingerprint(saved)) == 32


def test_parameters_are_counted_without_loading(saved: Path, tiny_model: Maker) -> None:
    assert fingerprints.count_parameters(saved) == sum(p.numel() for p in tiny_model("llama").parameters())


def test_gguf_file_becomes_a_plain_float32_model(tmp_path: Path, cache: Path) -> None:
    source = resolve_source(str(write_gguf(tmp_path / "tiny.gguf")))
    model = source.load(torch.float32)
    assert sum(parameter.numel() for parameter in model.parameters()) == fingerprints.count_parameters(source.path)
    assert not hasattr(model.config, "quantization_config")
    model.save_pretrained(tmp_path / "again")
    assert resolve_source(str(tmp_path / "again")).config().num_hidden_layers == 2
    assert len(list((cache / "models").iterdir())) == 1


def test_gguf_file_is_converted_once(tmp_path: Path, cache: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    resolve_source(str(file)).config()
    (converted,) = (cache / "models").iterdir()
    made = converted.stat().st_mtime_ns
    shutil.copy(file, tmp_path / "other-name.gguf")
    resolve_source(str(tmp_path / "other-name.gguf")).load(torch.float32)
    assert [folder.stat().st_mtime_ns for folder in (cache / "models").iterdir()] == [made]


def test_gguf_files_of_the_same_weights_keep_their_own_tokenizers(tmp_path: Path) -> None:
    first, other = (resolve_source(str(write_gguf(tmp_path / f"{m[0]}.gguf", m))) for m in ("A B", "C D"))
    assert first.fingerprint() == other.fingerprint()
    assert first.tokenizer().tokenize("ABCD") == ["AB", "C", "D"]
    assert other.tokenizer().tokenize("ABCD") == ["A", "B", "CD"]


def test_interrupted_conversion_leaves_nothing_behind(tmp_path: Path, cache: Path, monkeypatch: Any) -> None:
    from transformers import PreTrainedModel

    def full_disk(*args: object, **options: object) -> None:
        raise OSError("No space left on device")

    source = resolve_source(str(write_gguf(tmp_path / "tiny.gguf")))
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", full_disk)
        with pytest.raises(ModelError, match="No space left"):
            source.load(torch.float32)
    assert list((cache / "models").iterdir()) == []
    assert source.load(torch.float32) is not None


@pytest.mark.parametrize("keep", [3, 100, 3000, -4])
def test_damaged_gguf_is_a_model_error(tmp_path: Path, keep: int) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    file.write_bytes(file.read_bytes()[:keep])
    expect_error(resolve_source(str(file)), "not a readable GGUF file")


@pytest.mark.parametrize("keep", [0, 5, 2000, -4])
def test_damaged_safetensors_is_a_model_error(saved: Path, keep: int) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep] if keep else b"")
    expect_error(resolve_source(str(saved)), "not a readable safetensors file")


def expect_error(source: ModelSource, words: str) -> None:
    for read in (source.fingerprint, lambda: source.load(torch.float32)):
        with pytest.raises(ModelError, match=words) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_config_without_weights_is_a_model_error(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    source = resolve_source(str(saved))
    assert source.config().num_hidden_layers == 3
    expect_error(source, "no weights")


@pytest.mark.parametrize(
    ("number", "dtype", "words"),
    [
        (float("nan"), torch.float32, "not finite in float32: model.layers.0.mlp.down_proj.weight"),
        (float("-inf"), torch.float32, "not finite in float32: model.layers.0.mlp.down_proj.weight"),
        (1e5, torch.float16, "not finite in float16: model.layers.0.mlp.down_proj.weight.*set model.dtype"),
    ],
)
def test_error_names_the_weight_that_is_not_finite(saved: Path, number: float, dtype: torch.dtype, words: str) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["model.layers.0.mlp.down_proj.weight"][3, 1] = number
        return weights

    edit_weights(saved, spoil)
    with pytest.raises(ModelError, match=words):
        resolve_source(str(saved)).load(dtype)


def test_large_weights_load_in_a_dtype_that_can_hold_them(saved: Path) -> None:
    edit_weights(saved, lambda weights: {name: weight * 1e6 for name, weight in weights.items()})
    resolve_source(str(saved)).load(torch.bfloat16)


def test_error_names_the_missing_shard(tiny_model: Maker, tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "many", max_shard_size="20KB")
    next(iter(sorted((tmp_path / "many").glob("*.safetensors")))).unlink()
    expect_error(resolve_source(str(tmp_path / "many")), r"model-00001-of-\d+.safetensors: no such file")


def test_layers_without_weights_are_not_initialised_randomly(saved: Path) -> None:
    edit_config(saved, num_hidden_layers=4)
    with pytest.raises(ModelError, match=r"missing model.layers.3"):
        resolve_source(str(saved)).load(torch.float32)


def test_weights_without_a_layer_are_refused(saved: Path) -> None:
    edit_config(saved, num_hidden_layers=2)
    with pytest.raises(ModelError, match=r"unexpected model.layers.2"):
        resolve_source(str(saved)).load(torch.float32)


def test_weights_of_another_size_are_a_model_error(saved: Path) -> None:
    edit_config(saved, intermediate_size=32)
    with pytest.raises(ModelError) as caught:
        resolve_source(str(saved)).load(torch.float32)
    assert "\n" not in str(caught.value)


def test_damaged_config_is_a_model_error(saved: Path) -> None:
    (saved / "config.json").write_text('{"model_type": ')
    with pytest.raises(ModelError):
        resolve_source(str(saved)).config()
    with pytest.raises(ModelError, match=r"config.json"):
        resolve_source(str(saved)).fingerprint()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "t5"}, "'t5' is not a causal language model"),
        ({"model_type": "no-such-model"}, "has no model type 'no-such-model'"),
        ({"hidden_size": "wide"}, "its config cannot be read"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}, "trust_remote_code: true"),
    ],
)
def test_unusable_config_is_a_model_error(saved: Path, changes: dict[str, object], words: str) -> None:
    edit_config(saved, **changes)
    with pytest.raises(ModelError, match=words) as caught:
        resolve_source(str(saved)).config()
    assert "\n" not in str(caught.value)


def test_missing_tokenizer_is_a_model_error(saved: Path) -> None:
    with pytest.raises(ModelError, match="no complete tokenizer in"):
        resolve_source(str(saved)).tokenizer()


def test_model_larger_than_memory_is_refused_before_it_is_loaded(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    small = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: small)
    with pytest.raises(ModelError, match=r"needs about [\d.]+ KiB in bfloat16, 1.0 KiB are free: choose a smaller"):
        resolve_source(str(saved)).load(torch.bfloat16)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("./nowhere", "no such folder"),
        ("/nowhere/at/all", "no such folder"),
        ("nowhere.gguf", "no file"),
        ("nobody/nothing", "not available from the Hub"),
        ("smollm2-135n", "did you mean smollm2-135m"),
    ],
)
def test_missing_source_is_a_one_line_model_error(source: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        resolve_source(source)
    assert "\n" not in str(caught.value)


def test_folder_without_config_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config.json"):
        resolve_source(str(tmp_path))


def test_snapshot_in_the_hub_cache_is_found_offline(saved: Path, tmp_path: Path) -> None:
    """Runs in a subprocess, because huggingface_hub reads its settings once."""
    import subprocess
    import sys

    hub = tmp_path / "hub" / "models--some--model"
    commit = "0123456789" * 4
    shutil.copytree(saved, hub / "snapshots" / commit)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(commit)
    code = (
        "import torch; from prunecast.models.source import resolve_source; s = resolve_source('some/model');"
        "print(s.kind, s.revision, s.fingerprint(), s.load(torch.float32).dtype)"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hub", commit, fingerprints.fingerprint(saved), "torch.float32"]


@pytest.mark.slow
@pytest.mark.parametrize(("alias", "parameters"), [("smollm2-135m", 134_515_008), ("gemma3-270m", 268_098_176)])
def test_a_distributed_model_loads_complete_and_tokenises_like_its_file(alias: str, parameters: int) -> None:
    from transformers import AutoTokenizer

    try:
        source = resolve_source(alias)
    except ModelError as error:
        if "not installed" not in str(error):
            raise
        pytest.skip(str(error))
    model = source.load(torch.float32)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    original = AutoTokenizer.from_pretrained(source.path.parent, gguf_file=source.path.name)
    text = "The Seattle Times = \n\n  na\u00efve caf\u00e9 \U0001f642, 1234 @-@ <unk> <|im_start|>\tx"
    converted = source.tokenizer()
    assert converted(text)["input_ids"] == original(text)["input_ids"]
    assert converted.chat_template == original.chat_template
    with torch.inference_mode():
        ids = converted("The capital of France is the city of", return_tensors="pt")["input_ids"]
        assert converted.decode(model(ids).logits[0, -1].argmax()).strip() == "Paris"


def test_a_stock_tokenizer_is_not_saved_with_a_reference_to_code(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    named = {"auto_map": {"AutoTokenizer": [f"{folder}--own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | named))
    resolve_source(str(folder)).tokenizer().save_pretrained(tmp_path / "saved")
    assert "auto_map" not in json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_no_folder(name: str) -> None:
    with pytest.raises(ModelError, match="the name of the model is empty: give an alias, a folder"):
        resolve_source(name)
