"""Exported folders, compared with a stock dense model in which the pruned parts are zeroed.

The reference shares no code with the export: zeroing columns of the output and down projections of the dense model
gives the same function as leaving the parts out.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from huggingface_hub import ModelCard
from places import SUPPORT
from pruned_families import CASES, HEAD_DIM, SIZE_NAMES, SIZES, VOCABULARY, Pruned, ascending, prune
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from slow_cases import slow_but
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM as AutoCausal
from transformers import AutoTokenizer, LlamaConfig, Phi3Config, PreTrainedTokenizerFast

from prunecast.architecture.architecture import Architecture
from prunecast.errors import ExportError
from prunecast.export.card import CardContent
from prunecast.export.deliver import Deliverable, ExportReport, deliver, pruned_model
from prunecast.export.huggingface import HuggingFace, HuggingFaceOptions, continue_text
from prunecast.models.compensation import FromMoments
from prunecast.models.elastic import ElasticModel
from prunecast.models.license import License
from prunecast.models.moments import gather_moments
from prunecast.models.source import ModelSource
from prunecast.plugins.exporter import Reference
from prunecast.plugins.guard import instance
from prunecast.plugins.host import PluginHost
from prunecast.testing.models import family_of, shape_of

NEW_TOKENS = 12


def greedy(pruned, prompt):
    """Greedy continuation of one prompt (T,), by full forwards of the zeroed dense model."""
    ids = prompt[None]
    for _ in range(NEW_TOKENS):
        ids = torch.cat([ids, pruned.logits(ids)[:, -1:].argmax(-1)], dim=1)
    return ids[0, len(prompt) :]


pytestmark = pytest.mark.timeout(900)  # all exports are made for the first test


@pytest.fixture(scope="module")
def tokenizer():
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="w0")


CARD = CardContent(
    model_name="tiny-80",
    base_model="someone/tiny",
    spec_text="model: {source: tiny}\n# äö\r\nrounds: 1",
    columns=("model", "parameters", "wikitext2.test.ppl"),
    rows=[("dense", 134_515_008, 28.8213), ("uniform | mlp", 107_612_000, 44.02), ("this", 107_600_000, 41.5)],
    protocol="WikiText-2 raw test, 16,384 tokens, context 512, float32; parameters with embeddings.",
    license=License("apache-2.0"),
)


def export(pruned, tokenizer, folder, **changes) -> ExportReport:
    """Export a pruned model; the ways in which a call differs are fields of the deliverable, the source or the call."""
    config, state = changes.pop("config", pruned.config), changes.pop("state", pruned.state)
    source = ModelSource("folder", "tiny", folder.parent / "dense")
    if generation := changes.pop("generation", None):
        source.path.mkdir(exist_ok=True)
        shutil.copyfile(generation, source.path / "generation_config.json")
    card, logits = changes.pop("card", CARD), changes.pop("reference", pruned.logits)
    reference = Reference(logits, tuple(changes.pop("text", ())), (), 128)
    chosen = Deliverable(pruned.zeroed, state, changes.pop("architecture", pruned.architecture))
    model = pruned_model(card.model_name, config, family_of(config), chosen, tokenizer, source)
    exporter = changes.pop("exporter", HuggingFace(HuggingFaceOptions()))
    return deliver(exporter, "huggingface", model, card, folder, reference, **changes)


@dataclass
class Exported:
    """A case: the pruned model, its export, and the results of loading it without prunecast in a subprocess."""

    pruned: Pruned
    report: ExportReport
    told: dict
    given: dict

    @property
    def config(self):
        return json.loads((self.report.folder / "config.json").read_text())


@pytest.fixture(scope="module")
def prompts():
    ids = torch.randint(1, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, :9] = 0
    return {"ids": ids, "padded": ids * mask, "mask": mask}


DAILY = ("llama-mixed", "llama-dense", "gpt2-mixed", "gemma2-sliding", "phi3-long")
"""Cases that are not slow; every export is loaded in a process of its own."""


@pytest.fixture(scope="module")
def exports(tmp_path_factory, tokenizer, prompts):
    return exports_of(DAILY, tmp_path_factory.mktemp("exports"), tokenizer, prompts)


@pytest.fixture(scope="module")
def slow_exports(tmp_path_factory, tokenizer, prompts):
    return exports_of([case for case in CASES if case not in DAILY], tmp_path_factory.mktemp("e"), tokenizer, prompts)


def exports_of(cases, base, tokenizer, prompts):
    pruned = {case: prune(*CASES[case]) for case in cases}
    reports = {case: export(pruned[case], tokenizer, base / case) for case in cases}
    told, given = ask_stranger(base, {case: str(report.folder) for case, report in reports.items()}, prompts)
    return {
        case: Exported(
            pruned[case],
            reports[case],
            told[case],
            {key.split("/")[1]: value for key, value in given.items() if key.startswith(f"{case}/")},
        )
        for case in cases
    }


def ask_stranger(base, plan, prompts):
    (base / "plan.json").write_text(json.dumps(plan))
    save_file(prompts, base / "prompts.safetensors")
    script = SUPPORT / "load_as_stranger.py"
    outcome = subprocess.run(
        [sys.executable, "-I", str(script), str(base / "plan.json"), str(base / "results")],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(base / "modules")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    return json.loads((base / "results.json").read_text()), load_file(base / "results.safetensors")


@pytest.fixture(params=slow_but(DAILY, CASES))
def exported(request):
    made = request.getfixturevalue("exports" if request.param in DAILY else "slow_exports")
    return made[request.param]


def close(logits, expected):
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


# --------------------------------------------------------------------------------------- loading without prunecast


def test_no_weight_is_missing_unexpected_or_mismatched(exported):
    assert exported.told["loading"]
    assert not any(exported.told["loading"].values())


def test_the_class_without_head_loads_all_of_its_weights(exported):
    told = exported.told["loading without head"]
    assert told.pop("unexpected_keys") in ([], ["lm_head.weight"])
    assert not any(told.values())


def test_the_class_without_head_gives_the_last_hidden_states(exported):
    assert exported.given["last hidden states"].std() > 0.1
    assert torch.equal(exported.given["hidden states without head"], exported.given["last hidden states"])


def test_parameter_counts_match_the_state(exported):
    tied = exported.pruned.config.tie_word_embeddings
    sizes = [t.numel() for name, t in exported.pruned.state.items() if not (tied and name == "lm_head.weight")]
    assert exported.told["parameters"] == exported.report.parameters == sum(sizes)


def test_logits_are_those_of_the_zeroed_dense_model(exported, prompts):
    expected = exported.pruned.logits(prompts["ids"])
    close(exported.given["logits"], expected)
    assert exported.report.max_logit_difference <= 1e-4


def test_eager_and_default_attention_give_the_same_logits(exported, prompts):
    expected = exported.pruned.logits(prompts["ids"])
    close(exported.given["eager"], expected)
    close(exported.given["switched"], expected)


def test_feeding_tokens_one_by_one_uses_the_right_positions(exported):
    close(exported.given["stepwise"], exported.given["logits"])


def test_greedy_generation_equals_full_forwards(exported, prompts):
    expected = torch.stack([greedy(exported.pruned, prompt) for prompt in prompts["ids"]])
    assert exported.given["greedy"].tolist() == expected.tolist()
    assert exported.given["uncached"].tolist() == expected.tolist()


def test_left_padding_does_not_change_the_generated_text(exported, prompts):
    rows = [ids[mask == 1] for ids, mask in zip(prompts["ids"], prompts["mask"], strict=True)]
    expected = [greedy(exported.pruned, row).tolist() for row in rows]
    assert exported.given["padded"].tolist() == expected
    assert exported.given["padded uncached"].tolist() == expected


def test_static_cache_generates_the_same(exported):
    assert exported.given["static"].tolist() == exported.given["padded"].tolist()


def test_beam_search_reorders_every_cached_layer(exported):
    assert exported.given["beams"].tolist() == exported.given["beams uncached"].tolist()


def test_saving_and_loading_again_keeps_the_logits(exported):
    assert torch.equal(exported.given["resaved"], exported.given["logits"])


def test_loads_in_bfloat16_with_a_device_map(exported):
    half, full = exported.given["bfloat16"], exported.given["logits"]
    assert half.dtype == torch.bfloat16
    assert (half - full).norm() < 0.1 * full.norm()


def test_loading_requires_trust_remote_code(exported):
    assert "trust_remote_code=True" in exported.told["untrusted"]
    assert "trust_remote_code=True" in exported.told["base"]


def test_stock_class_never_loads_a_pruned_model(exports):
    assert {case for case, exported in exports.items() if exported.told["stock"] is None} == {"llama-dense"}


def test_tokenizer_loads(exported):
    assert exported.told["tokens"] == [3, 5]


def test_tokenizer_loads_without_trust_remote_code(exports):
    # Without our config class, transformers validates these parameters with a model-wide number of heads.
    assert {case for case, exported in exports.items() if exported.told["untrusted tokenizer"]} == {"phi3-long"}


# --------------------------------------------------------------------------------------------- contents of the folder


def test_config_spells_out_every_layer(exported):
    layers = exported.config["per_layer_config"]
    default = ("num_attention_heads", "num_key_value_heads", "intermediate_size")
    names = SIZE_NAMES.get(exported.pruned.config.model_type, default)
    architecture = exported.pruned.architecture
    assert len(layers) == len(architecture.layers)
    for index, layer in enumerate(architecture.layers):
        counts = (layer.query_heads, layer.kv_groups, layer.mlp_width)
        expected = {name: count for name, count in zip(names, counts, strict=True) if name is not None}
        assert layers[str(index)] == expected
    assert exported.config["head_dim"] == HEAD_DIM


def test_config_has_no_keys_of_stock_classes(exported):
    text = (exported.report.folder / "config.json").read_text()
    assert exported.told["model_type"] == f"prunecast-{exported.pruned.config.model_type}"
    assert '"skip"' not in text
    assert "allow_global_per_layer_attribute_access" not in text


def test_modelling_file_names_only_its_own_family(exported):
    code = (exported.report.folder / "modeling_prunecast.py").read_text().lower()
    every = {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "smollm3", "phi3", "gpt2", "opt"}
    others = every - {exported.pruned.config.model_type.removesuffix("_text")}
    assert exported.pruned.config.model_type in code
    assert not [name for name in others if name in code]
    assert "import prunecast" not in code


def test_the_tokenizer_loads_without_trusting_code(exported, tokenizer):
    if (exported.config.get("rope_parameters") or {}).get("rope_type") == "longrope":
        pytest.skip("transformers checks these frequencies by the number of heads, which differs between layers")
    loaded = AutoTokenizer.from_pretrained(exported.report.folder, trust_remote_code=False)
    text = " ".join(tokenizer.convert_ids_to_tokens([5, 17, 3]))
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_report_lists_the_folder(exported):
    folder = exported.report.folder
    assert set(exported.report.files) == {path.name for path in folder.iterdir()}
    assert exported.report.bytes == sum(path.stat().st_size for path in folder.iterdir())
    expected = {"README.md", "architecture.json", "config.json", "generation_config.json", "model.safetensors"}
    assert expected | {"modeling_prunecast.py", "prunecast_spec.yaml", "tokenizer.json"} <= set(exported.report.files)


def test_no_temporary_files_remain_beside_the_folders(exports):
    parent = exports["llama-dense"].report.folder.parent
    assert not [path.name for path in parent.iterdir() if path.name.startswith(".")]


def test_architecture_and_spec_are_kept_verbatim(exported):
    folder = exported.report.folder
    assert Architecture.from_json((folder / "architecture.json").read_text()) == exported.pruned.architecture
    assert (folder / "prunecast_spec.yaml").read_bytes() == CARD.spec_text.encode()


def test_model_card_has_a_valid_front_matter_and_the_table(exported):
    card = ModelCard.load(exported.report.folder / "README.md")
    assert card.data.base_model == "someone/tiny"
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert "| dense | 134,515,008 | 28.82 |" in card.text
    assert "| uniform \\| mlp | 107,612,000 | 44.02 |" in card.text
    assert str(exported.pruned.architecture) in card.text
    assert f"{exported.report.parameters:,}" in card.text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_stored_bit_by_bit_in_their_own_dtype(dtype, tmp_path, tokenizer):
    pruned = prune(*CASES["llama-mixed"])
    pruned.state = {name: tensor.to(dtype) for name, tensor in pruned.state.items()}
    for parameter in pruned.zeroed.parameters():
        parameter.data = parameter.data.to(dtype).float()
    folder = export(pruned, tokenizer, tmp_path / "half").folder
    stored = load_file(folder / "model.safetensors")
    assert set(stored) == set(pruned.state) - {"lm_head.weight"}
    assert all(torch.equal(tensor, pruned.state[name]) for name, tensor in stored.items())
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert json.loads((folder / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_quantization_config_is_dropped_and_the_input_config_unchanged(tmp_path, tokenizer):
    pruned = prune(LlamaConfig(**SIZES, num_hidden_layers=1), "2x2+5")
    pruned.config.quantization_config = {"quant_method": "gguf"}
    before = pruned.config.to_dict()
    folder = export(pruned, tokenizer, tmp_path / "model").folder
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert pruned.config.to_dict() == before


def test_views_of_a_larger_tensor_are_stored_without_the_rest(tmp_path, tokenizer):
    pruned = prune(LlamaConfig(**SIZES, num_hidden_layers=1), "2x2+5")
    name = "model.layers.0.mlp.up_proj.weight"
    large = torch.cat([pruned.state[name], torch.ones(500, 32)])
    pruned.state |= {name: large[:5], "model.norm.weight": pruned.state["model.norm.weight"]}
    assert export(pruned, tokenizer, tmp_path / "model").max_logit_difference <= 1e-4


@pytest.mark.parametrize(
    ("config", "text", "given", "expected"),
    [
        (LlamaConfig(**SIZES, num_hidden_layers=3), "2x2+5 0+48 4x2+0", "mlp.down_proj", ["mlp.down_proj"]),
        (LlamaConfig(**SIZES, num_hidden_layers=3), "2x2+5 3x1+4 0+9", "self_attn.o_proj", ["self_attn.o_proj"]),
        (Phi3Config(**SIZES, num_hidden_layers=2, pad_token_id=0), "2x2+5 3x1+4", "mlp.down_proj", ["mlp.down_proj"]),
        (
            LlamaConfig(**SIZES, num_hidden_layers=2, attention_bias=True),
            "2x2+5 3x1+4",
            "mlp.down_proj",
            ["self_attn.o_proj", "mlp.down_proj"],
        ),
    ],
)
def test_biases_absent_from_the_dense_model_are_exported(config, text, given, expected, tmp_path, tokenizer):
    pruned = prune(config, text)
    bias = torch.linspace(-1, 1, 32)
    pruned.state[f"model.layers.0.{given}.bias"] = bias
    projection = pruned.zeroed.get_submodule(f"model.layers.0.{given}")
    assert projection.bias is None
    projection.bias = torch.nn.Parameter(bias)
    report = export(pruned, tokenizer, tmp_path / "model")
    stored = load_file(report.folder / "model.safetensors")
    kept = {name for name in pruned.state if name.endswith(f".{given}.weight")}
    biases = {name: tensor for name, tensor in stored.items() if name.endswith(f".{given}.bias")}
    assert {name.replace(".bias", ".weight") for name in biases} == kept
    assert torch.equal(biases.pop(f"model.layers.0.{given}.bias"), bias)
    assert not any(tensor.any() for tensor in biases.values())
    assert json.loads((report.folder / "config.json").read_text())["output_bias"] == expected
    assert report.parameters == sum(tensor.numel() for tensor in stored.values())


@pytest.mark.parametrize("case", ["llama-mixed", "qwen2-sliding", "phi3-fused", "gpt2-mixed"])
def test_an_elastic_model_with_compensating_biases_is_exported_unchanged(case, tmp_path, tokenizer):
    config, text = CASES[case]
    model = AutoCausal.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    architecture, shape = Architecture.parse(text), shape_of(config)
    family, path = family_of(config), tmp_path / "moments.safetensors"
    moments = gather_moments(model, family, [torch.randint(97, (4, 32))], path, lambda _: None)
    elastic = ElasticModel(model, family, shape, [ascending(config)] * len(architecture.layers))
    elastic.compensation = FromMoments(elastic, moments, "bias", 0.0)
    elastic.apply(architecture)
    reference = lambda ids: elastic.model(ids, use_cache=False).logits  # noqa: E731
    state = elastic.state_dict()
    report = export(Pruned(config, architecture, state, model), tokenizer, tmp_path / "model", reference=reference)
    assert report.max_logit_difference <= 1e-4
    assert report.parameters >= shape.count([architecture])[0]


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.fixture
def small():
    return prune(LlamaConfig(**SIZES, num_hidden_layers=2), "3x1+20 0+9")


def failure(*arguments, **changes):
    with pytest.raises(ExportError) as caught:
        export(*arguments, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_differing_logits_are_refused_and_leave_no_files(small, tokenizer, tmp_path):
    message = failure(small, tokenizer, tmp_path / "model", reference=lambda ids: small.logits(ids) * 1.01)
    assert "logits are 9.9e-03" in message
    assert not list(tmp_path.iterdir())


def test_a_missing_weight_is_refused(small, tokenizer, tmp_path):
    del small.state["model.layers.1.mlp.gate_proj.weight"]
    assert "missing keys: ['model.layers.1.mlp.gate_proj.weight']" in failure(small, tokenizer, tmp_path / "model")


def test_weights_of_a_removed_component_are_refused(small, tokenizer, tmp_path):
    small.state["model.layers.1.input_layernorm.weight"] = torch.ones(32)
    assert "unexpected keys: ['model.layers.1.input_layernorm.weight']" in failure(small, tokenizer, tmp_path / "m")


def test_an_architecture_of_other_sizes_is_refused(small, tokenizer, tmp_path):
    other = Architecture.parse("3x1+21 0+9")
    assert "mismatch" in failure(small, tokenizer, tmp_path / "model", architecture=other)
    assert not list(tmp_path.iterdir())


def test_files_of_others_in_the_folder_stay(small, tokenizer, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    report = export(small, tokenizer, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert {path.name for path in tmp_path.iterdir()} == {*report.files, "thesis.tex"}


@pytest.mark.parametrize(
    "name", ["config.json", "adapter_config.json", "model.safetensors.index.json", "added_tokens.json", "README.md"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_another_model_are_neither_replaced_nor_mixed_with(small, tokenizer, tmp_path, name, overwrite):
    (tmp_path / name).write_text("years of work")
    message = failure(small, tokenizer, tmp_path, overwrite=overwrite)
    assert f"{tmp_path} holds {name} of another origin" in message
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "years of work"


def test_a_file_in_place_of_the_folder_is_not_replaced(small, tokenizer, tmp_path):
    (tmp_path / "model").write_text("years of work")
    assert str(tmp_path / "model") in failure(small, tokenizer, tmp_path / "model")
    assert (tmp_path / "model").read_text() == "years of work"


@pytest.mark.parametrize("case", ["llama-mixed", "gemma2-sliding"])
def test_generation_config_is_that_of_the_dense_model(case, tokenizer, tmp_path):
    given = tmp_path / "given.json"
    # As in chat models; transformers reads a temperature without sampling but refuses to write it.
    settings = {"eos_token_id": [2, 7], "temperature": 0.6, "repetition_penalty": 1.1, "num_beams": 2}
    given.write_text(json.dumps(settings | ({"cache_implementation": "hybrid"} if "gemma2" in case else {})))
    folder = export(prune(*CASES[case]), tokenizer, tmp_path / "model", generation=given).folder
    assert (folder / "generation_config.json").read_bytes() == given.read_bytes()


def test_an_export_of_another_architecture_is_replaced_only_with_overwrite(small, tokenizer, tmp_path):
    folder = export(small, tokenizer, tmp_path / "model").folder
    (folder / "q8.gguf").write_text("of the user")
    other = prune(LlamaConfig(**SIZES, num_hidden_layers=1), "1x1+3")
    assert "of another architecture" in failure(other, tokenizer, folder)
    assert Architecture.from_json((folder / "architecture.json").read_text()) == small.architecture
    report = export(other, tokenizer, folder, overwrite=True)
    assert "q8.gguf" not in report.files
    assert (folder / "q8.gguf").read_text() == "of the user"
    assert Architecture.from_json((folder / "architecture.json").read_text()) == other.architecture
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_same_export_again_rewrites_nothing(small, tokenizer, tmp_path):
    before = export(small, tokenizer, tmp_path)
    stamps = {path.name: path.stat() for path in tmp_path.iterdir()}
    again = export(small, tokenizer, tmp_path)
    assert (before.unchanged, again.unchanged) == (False, True)
    assert (again.files, again.bytes, again.parameters) == (before.files, before.bytes, before.parameters)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == {
        name: stat.st_mtime_ns for name, stat in stamps.items()
    }


def test_all_files_have_the_mode_that_the_umask_gives(small, tokenizer, tmp_path):
    umask = 0o002
    before = os.umask(umask)
    try:
        report = export(small, tokenizer, tmp_path / "model")
    finally:
        os.umask(before)
    modes = {name: oct((report.folder / name).stat().st_mode & 0o777) for name in report.files}
    assert modes == dict.fromkeys(report.files, oct(0o666 & ~umask))
    assert report.folder.stat().st_mode & 0o777 == 0o777 & ~umask


# Each makes generation fail, ask for code from the Hub or return something else than one greedy row.
SETTINGS = {
    "rows": {"num_return_sequences": 4, "do_sample": True, "stop_strings": ["User:"], "max_length": 3},
    "code from the Hub": {"dola_layers": "high", "penalty_alpha": 0.6, "top_k": 4, "prompt_lookup_num_tokens": 3},
    "beams": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "force_words_ids": [[5]]},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_generation_settings_of_the_model_change_neither_the_comparison_nor_the_sentence(
    small, tokenizer, tmp_path, settings
):
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"eos_token_id": None} | settings))
    report = export(small, tokenizer, tmp_path / "model", generation=given)
    assert report.max_logit_difference <= 1e-4
    assert (report.folder / "generation_config.json").read_bytes() == given.read_bytes()
    plain = tmp_path / "plain"
    shutil.copytree(report.folder, plain)
    (plain / "generation_config.json").write_text('{"eos_token_id": null}')
    assert continue_text(str(report.folder), "w3 w5") == continue_text(str(plain), "w3 w5")


def test_the_card_says_what_loads_the_folder(exported):
    card = (exported.report.folder / "README.md").read_text()
    assert "vLLM" in card
    assert "llama.cpp" in card


def test_a_failed_export_keeps_the_earlier_one(small, tokenizer, tmp_path):
    folder = export(small, tokenizer, tmp_path / "model").folder
    before = (folder / "model.safetensors").read_bytes()
    failure(small, tokenizer, folder, reference=lambda ids: -small.logits(ids))
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_folder_that_cannot_be_created_is_a_one_line_error(small, tokenizer, tmp_path):
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'} is a file, no folder" in failure(small, tokenizer, tmp_path / "file" / "model")


def guarded():
    """The exporter as a run has it."""
    return instance(PluginHost.discover().find("exporter", "huggingface"), HuggingFaceOptions())


@pytest.mark.parametrize("exporter", [guarded, lambda: HuggingFace(HuggingFaceOptions())], ids=["guarded", "plain"])
def test_a_full_disk_is_a_one_line_error_and_leaves_no_files(exporter, small, tokenizer, tmp_path):
    exporter = exporter()
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    weights = sum(tensor.nbytes for tensor in small.state.values())
    resource.setrlimit(resource.RLIMIT_FSIZE, (weights - 1000, limits[1]))
    try:
        message = failure(small, tokenizer, tmp_path / "model", exporter=exporter)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be written" in message
    assert not list(tmp_path.iterdir())


def test_greedy_text_is_compared_from_all_of_a_prompt_with_the_token_of_padding(small, tokenizer, tmp_path):
    report = export(small, tokenizer, tmp_path / "model", text=(0, 5, 0, 7, 0, 9) * 12)
    assert report.parity.greedy == report.parity.greedy_equal == 32
    assert report.parity.perplexity == pytest.approx(report.parity.reference_perplexity, rel=1e-4)
