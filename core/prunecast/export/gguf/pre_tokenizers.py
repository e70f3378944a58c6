"""Pre-tokenizers that llama.cpp knows by name, recognised by how they split a text."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

_LETTERS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_CAPITALS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_LETTERS}|[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}"
_CASED_ENDINGS = rf"[^\r\n\p{{L}}\p{{N}}]?{_LETTERS}{_ENDINGS}?|[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}{_ENDINGS}?"

PROBE = (
    "The 1st  of 23 May, 1814159: I'll say it's HERS, WE'RE \n\n  done!\r\n\tif (x[0] != 3.14e-10) "
    '{ return "naïve"; }  \n \t  end... ??!!  «Straße» 日本語のテキスト, русский текст — ภาษาไทย עברית العربية '
    "½ Ⅷ ٣٤ e\u0301 x\u200by 👩\u200d💻😀 CamelCaseWords and snake_case_words/paths/to\\file.txt\n"
    "/// 'quoted' don'T she'd'VE 1,000,000.00   \u00a0\u3000end \n"
)
"""Text whose parts every known pre-tokenizer splits in its own way."""


@dataclass(frozen=True)
class PreTokenizer:
    """A pre-tokenizer that works on bytes.

    Attributes:
        name: its name in llama.cpp (``tokenizer.ggml.pre``).
        ignores_merges: True if a piece that is a token is never split into the tokens of its merges.
        pattern: regular expression of the pieces; None for GPT-2's.
        digits: True if every digit is a piece of its own before the pattern applies.
    """

    name: str
    ignores_merges: bool = False
    pattern: str | None = None
    digits: bool = False

    @cached_property
    def built(self) -> Any:
        """The pre-tokenizer as an object of the library ``tokenizers``."""
        from tokenizers import Regex, pre_tokenizers

        parts: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if self.digits else []
        if self.pattern is not None:
            parts.append(pre_tokenizers.Split(Regex(self.pattern), "isolated"))
        parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.pattern is None))
        return pre_tokenizers.Sequence(parts)


KNOWN = (
    PreTokenizer("gpt-2"),
    PreTokenizer("smollm", digits=True),
    PreTokenizer("llama-bpe", True, rf"{_WORDS}|\p{{N}}{{1,3}}|{_SIGNS}[\r\n]*|{_SPACES}"),
    PreTokenizer("dbrx", False, rf"{_WORDS}|\p{{N}}{{1,3}}|{_SIGNS}[\r\n]*|{_SPACES}"),
    PreTokenizer("qwen2", False, rf"{_WORDS}|\p{{N}}|{_SIGNS}[\r\n]*|{_SPACES}"),
    PreTokenizer("tekken", True, rf"{_CASED}|\p{{N}}|{_SIGNS}[\r\n/]*|{_SPACES}"),
    PreTokenizer("gpt-4o", False, rf"{_CASED_ENDINGS}|\p{{N}}{{1,3}}|{_SIGNS}[\r\n/]*|{_SPACES}"),
)
"""Pre-tokenizers that can be written; SmolLM, Llama 3, Qwen and Mistral's newer models are among them."""


def recognised(pre_tokenizer: Any, ignores_merges: bool) -> PreTokenizer | None:
    """The known pre-tokenizer that splits :data:`PROBE` as one of the library ``tokenizers`` does; None if none does.

    Args:
        pre_tokenizer: the one to recognise.
        ignores_merges: True if its model never splits a piece that is a token.
    """
    pieces = pre_tokenizer.pre_tokenize_str(PROBE)
    for known in KNOWN:
        if known.ignores_merges == ignores_merges and known.built.pre_tokenize_str(PROBE) == pieces:
            return known
    return None
