"""The conformance suite of families: every check fails where what it asks for is missing, and holds elsewhere."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from prunecast.cli.main import cli
from prunecast.plugins.hookspecs import Entry, Trial
from prunecast.testing import CheckFailed, check_family

CHECKS = [
    "the_file_is_a_description",
    "transformers_has_a_class_for_its_model_type",
    "the_config_has_the_attributes_that_it_names",
    "it_accounts_for_every_parameter_of_a_layer",
    "the_numeric_proof_accepts_it",
]
SIZES = {"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 24}


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Entry]]:
    """Maker of an entry of a package whose only file is a description."""
    package = tmp_path / "describing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str, name: str = "llama") -> Entry:
        (package / "own.yaml").write_text(text)
        return Entry(name, "describing:own.yaml", "Own", trial=Trial(SIZES))

    yield make
    sys.modules.pop("describing", None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "name", "first", "reason"),
    [
        ("name: llama\nquery: 3\n", "llama", 0, "own.yaml:2:8: query: must be text"),
        ("name: lama\n", "lama", 1, "transformers has no config class for model type 'lama'"),
        ("name: bert_generation\n", "bert-generation", 0, "is not 'bert-generation', the name of the family's entry"),
        ("name: t5\n", "t5", 1, "there is no causal language model for T5Config"),
        ("name: llama\nheads_attribute: n_head\n", "llama", 2, "LlamaConfig has no attribute n_head"),
        (
            "name: llama\nvariants: [{when: {has_bias: true}, change: {bos: true}}]\n",
            "llama",
            2,
            "LlamaConfig has no attribute has_bias",
        ),
        ("name: llama\nmlp_norms: []\n", "llama", 3, "does not cover its layers' parameters"),
        ("name: llama\ndown: mlp.down\n", "llama", 3, "down='mlp.down', which does not exist"),
        ("name: llama\nfollows: {}\n", "llama", 4, "is not described rightly"),
        (
            "name: llama\nvariants: [{when: {attention_bias: true}, change: {follows: {}}}]\n",
            "llama",
            4,
            "is not described rightly",
        ),
    ],
)
def test_the_first_check_that_fails_is_the_one_of_the_mistake(
    text: str, name: str, first: int, reason: str, entry: Callable[..., Entry]
) -> None:
    with pytest.raises(CheckFailed) as caught:
        check_family(entry(text, name))
    head, *lines = str(caught.value).splitlines()
    assert head.startswith(f"{name} fails ")
    assert lines[0].startswith(f"{CHECKS[first]}: ")
    assert reason in lines[0]


def test_a_right_description_passes_every_check(entry: Callable[..., Entry]) -> None:
    verdicts = check_family(entry("name: llama\n"))
    assert [(each.check, each.outcome) for each in verdicts] == [(check, "holds") for check in CHECKS]


def test_a_file_beside_a_local_plugin_is_checked_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: llama\nmlp_norms: []\n")
    (tmp_path / "own.py").write_text(
        "from prunecast.plugins import Entry, Trial, hookimpl\n\n\n"
        "@hookimpl\ndef prunecast_families():\n"
        f'    return [Entry("llama", f"{{__name__}}:own.yaml", "Own", trial=Trial({SIZES}))]\n'
    )
    arguments = ("plugins", "check", str(tmp_path / "own.py"), "--plugin-dir", str(tmp_path), "--kind", "family")
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.return_value == 1
    outcomes = [line.split()[3] for line in result.stdout.splitlines()[2:]]
    assert outcomes == ["holds", "holds", "holds", "broken", "broken"]
    assert result.stderr.endswith("1 plugin, 5 checks, 2 broken\n")
