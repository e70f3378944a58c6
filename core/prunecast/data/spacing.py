"""Plain articles in the dress of WikiText: what a text of that data set is compared with has to look like it.

In WikiText (Merity et al., arXiv 1609.07843, section 4.3) punctuation stands between spaces, and ``@-@``, ``@,@`` and
``@.@`` for what stood between two letters or digits. To a language model that is another text: on 20,480 tokens of the
same articles, SmolLM2-135M with a fifth of its parameters removed has a perplexity of 34.8 plain and 43.6 so.
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
    """One article as rows of WikiText joined by blank lines; a first line with a blank line below it is its title."""
    first, *others = article.split("\n")
    titled = bool(others) and not others[0].strip()
    paragraphs = [f" = {_spaced(first)} = " if titled else f" {_spaced(first)} "]
    paragraphs += [f" {_spaced(line)} " for line in others if line.strip()]
    return "".join(f"{paragraph}\n\n\n" for paragraph in paragraphs)


def _spaced(line: str) -> str:
    for pattern, replacement in _RULES:
        line = pattern.sub(replacement, line)
    return line.strip()
