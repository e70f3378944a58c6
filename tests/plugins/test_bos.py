"""The beginning-of-sequence token: when it is put in front, what then is in a key, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from evaluator_samples import byte_tokenizer, shape_with_room
from pydantic import BaseModel

from prunecast.errors import DataError
from prunecast.plugins import CalibrationOptions, CompensationOptions, PluginOptions, begin_with, bos_tokens
from prunecast.plugins.bos import with_settled_bos
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost
from prunecast_plugins.evaluators.mmlu import MMLUOptions
from prunecast_plugins.evaluators.perplexity import PerplexityOptions
from prunecast_plugins.pruners.obs import OBSOptions
from prunecast_plugins.pruners.taylor import TaylorOptions

BEGIN = 42
"""Id of the token that the tokenizer of these tests has for the beginning of a sequence."""

GEMMA = {"gemma", "gemma2", "gemma3_text"}


def tokenizer_with_bos() -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = tokenizer.convert_ids_to_tokens(BEGIN)
    return tokenizer


def shape_of_family(family: str) -> Any:
    return replace(shape_with_room(), family=family, bos=family in GEMMA)


def test_all_generations_of_gemma_need_the_token_and_no_other_family() -> None:
    assert {name for name, family in families_of(PluginHost.discover()).items() if family.bos} == GEMMA


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3_text", "llama", "opt", "a family of a later version"])
def test_auto_puts_the_token_in_front_for_gemma_only(family: str) -> None:
    shape, tokenizer = shape_of_family(family), tokenizer_with_bos()
    assert bos_tokens("auto", tokenizer, shape) == ([BEGIN] if family in GEMMA else [])
    assert bos_tokens("always", tokenizer, shape) == [BEGIN]
    assert bos_tokens("never", tokenizer, shape) == []


def test_the_token_comes_on_top_of_the_tokens_of_every_window() -> None:
    windows = torch.arange(6).view(2, 3)
    assert begin_with([BEGIN], windows).tolist() == [[BEGIN, 0, 1, 2], [BEGIN, 3, 4, 5]]
    assert begin_with([], windows).tolist() == windows.tolist()


def test_a_tokenizer_without_the_token_is_an_error_where_it_is_wanted() -> None:
    without = byte_tokenizer()
    with pytest.raises(DataError, match=r"gemma2 models need a beginning-of-sequence token.* set bos: never"):
        bos_tokens("auto", without, shape_of_family("gemma2"))
    with pytest.raises(DataError, match=r"bos: always, but the tokenizer has no .* leave bos out"):
        bos_tokens("always", without, shape_of_family("llama"))
    assert bos_tokens("never", without, shape_of_family("gemma2")) == []


@pytest.mark.parametrize(
    ("family", "bos", "recorded"),
    [
        ("llama", "auto", {}),
        ("llama", "never", {}),
        ("llama", "always", {"bos": "always"}),
        ("gemma2", "auto", {"bos": "always"}),
        ("gemma2", "always", {"bos": "always"}),
        ("gemma2", "never", {}),
    ],
)
def test_keys_have_the_option_where_the_token_is_put_in_front(family: str, bos: Any, recorded: dict[str, str]) -> None:
    def key_options(options: PluginOptions) -> dict[str, Any]:
        return with_settled_bos(options, family in GEMMA).material_options()

    assert key_options(PerplexityOptions(dataset="ptb", bos=bos)) == {"dataset": "ptb", **recorded}
    assert key_options(MMLUOptions(bos=bos)) == recorded
    text = CalibrationOptions(dataset="c4", bos=bos)
    assert key_options(TaylorOptions(calibration=text))["calibration"] == {"dataset": "c4", **recorded}
    both = (text, CalibrationOptions(dataset="ptb", bos="never"))
    assert key_options(OBSOptions(calibration=both))["calibration"] == [
        {"dataset": "c4", **recorded},
        {"dataset": "ptb"},
    ]
    compensation = CompensationOptions(method="bias", calibration=(text,))
    options = OBSOptions(compensate=compensation)
    assert key_options(options)["compensate"]["calibration"] == [{"dataset": "c4", **recorded}]


def test_default_texts_are_in_the_key_of_families_that_need_the_token() -> None:
    plain, needed = (
        with_settled_bos(OBSOptions(), needed).material_options().get("calibration") for needed in (False, True)
    )
    assert plain is None
    assert needed == [{"samples": 32, "tokens": 512, "bos": "always"}]


def test_an_option_of_another_plugin_that_is_called_bos_stays_as_it_is() -> None:
    class Inner(BaseModel):
        bos: int = 7

    class Other(PluginOptions):
        bos: bool = True
        inner: Inner = Inner()

    given = Other(bos=False, inner=Inner(bos=9))
    assert with_settled_bos(given, True) == given
