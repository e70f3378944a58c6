"""Texts for a first spec: to calibrate on, to search by and to report on, as far as they are at hand."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain

from prunecast.data import check_disjoint, check_embedded, dataset_label, encode, read_documents
from prunecast.errors import DataError
from prunecast.first_spec.look import Look
from prunecast.hub import only_its_cache

CALIBRATION = ("wikipedia-spaced", "c4")
"""Data sets to calibrate on: all that are at hand."""

EVALUATION = ("wikitext2", "ptb")
"""Data sets with a validation and a test split: all that are at hand."""

SEARCHED_TOO = "wikipedia-spaced"
"""Data set whose validation split is searched by beside those: it has no test split."""

BUNDLED = "python-docs"
"""Text that is part of every Python, where there is no other."""

LEAST_WINDOWS = 2
"""Number of windows that a text has at least."""

_READ = 2**18
"""Characters at the beginning of a text, or of documents together, that are tokenised to count them."""

_TRAINING_SPLITS = ("train", "calibration")


@dataclass(frozen=True)
class Text:
    """A split of a data set.

    Attributes:
        dataset: name of the data set, as in a spec in the current folder.
        split: its split.
        windows: number of windows that it has at least.
    """

    dataset: str
    split: str
    windows: int


@dataclass(frozen=True)
class Texts:
    """Texts by purpose, none of them empty; those of different purposes share nothing."""

    calibration: tuple[Text, ...]
    search: tuple[Text, ...]
    report: tuple[Text, ...]

    @property
    def bundled(self) -> bool:
        """True if a text was chosen that suffices for trials only."""
        return any(text.dataset == BUNDLED for text in (*self.calibration, *self.search))


def texts_at_hand(look: Look, calibration: Sequence[str] = (), evaluation: Sequence[str] = ()) -> Texts:
    """Texts for a model: those that are named, else data sets in the data folder and the Hub's cache, else Python's.

    Args:
        look: the model, with its tokenizer.
        calibration: data sets or files to calibrate on; none for those at hand.
        evaluation: data sets or files to search by and to report on; none for those at hand.

    Raises:
        DataError: a named text cannot be read, is too short or not one for the tokenizer; texts overlap; or none is at
            hand.
    """
    finder = _Finder(look)
    ranked = [finder.named("--calibration", name, _TRAINING_SPLITS)[0] for name in calibration]
    evaluated = [text for name in evaluation for text in finder.named("--evaluate", name, ("validation", "test"))]
    ranked = ranked or finder.calibration()
    evaluated = evaluated or finder.evaluation()
    search = tuple(text for text in evaluated if text.split == "validation")
    report = tuple(text for text in evaluated if text.split == "test")
    for part, split in ((search, "validation"), (report, "test")):
        if evaluation and not part:
            raise DataError(
                f"--evaluate {' '.join(evaluation)}: no text for the split {split}: name another one too; a file whose "
                "name does not end in val or test is cut into all splits"
            )
    if not (ranked and search and report):
        raise DataError(
            f"no text at hand that the tokenizer of {look.source.name} knows, in windows of {look.window} tokens: name "
            "some with --calibration FILE --evaluate FILE, or set PRUNECAST_DATA to a folder of data sets"
        )
    _check_apart(ranked, [*search, *report])
    return Texts(tuple(ranked), search, report)


def _check_apart(calibration: Sequence[Text], evaluated: Sequence[Text]) -> None:
    """Raise DataError if a text is calibrated on and evaluated, or two would measure metrics of one name."""
    for text in calibration:
        check_disjoint((text.dataset, text.split), [(other.dataset, other.split) for other in evaluated])
    labels = [(dataset_label(text.dataset), text.split) for text in evaluated]
    if twice := [label for label, _ in labels if labels.count((label, _)) > 1]:
        raise DataError(f"--evaluate: two texts are called {twice[0]}: rename one of the files, or leave one out")


class _Finder:
    """Reads texts for a model and counts their windows."""

    def __init__(self, look: Look) -> None:
        self._tokenizer, self._window, self._vocabulary = look.tokenizer, look.window, look.shape.vocabulary

    def named(self, option: str, name: str, splits: Sequence[str]) -> list[Text]:
        """Those of the splits that a named text has, at least one. Raises DataError, naming the option."""
        found, errors = [], []
        for split in splits:
            try:
                found.append(self._text(name, split, as_documents=splits is _TRAINING_SPLITS))
            except DataError as error:
                errors.append(error)
        if not found:
            raise DataError(f"{option} {name}: {errors[0]}") from errors[0]
        return found

    def calibration(self) -> list[Text]:
        """Text at hand to calibrate on."""
        found = [text for name in CALIBRATION for text in self._at_hand(name, "train", as_documents=True)]
        return found or list(self._at_hand(BUNDLED, "calibration", as_documents=True))

    def evaluation(self) -> list[Text]:
        """Text at hand to search by and to report on."""
        for names in (EVALUATION, (BUNDLED,)):
            pairs = [[*self._at_hand(name, "validation"), *self._at_hand(name, "test")] for name in names]
            if found := list(chain(*(pair for pair in pairs if len(pair) == 2))):
                return [*found, *(self._at_hand(SEARCHED_TOO, "validation") if names is EVALUATION else ())]
        return []

    def _at_hand(self, name: str, split: str, as_documents: bool = False) -> Iterator[Text]:
        """The text, if it is at hand and of use; nothing is downloaded."""
        with only_its_cache() if name != BUNDLED else nullcontext():
            try:
                yield self._text(name, split, as_documents)
            except DataError:
                return

    def _text(self, name: str, split: str, as_documents: bool) -> Text:
        documents = read_documents(name, split)
        lengths = self._lengths(documents if as_documents else ["\n\n".join(documents)])
        windows = sum(length for length in lengths if length >= self._window) // self._window
        if windows < LEAST_WINDOWS:
            raise DataError(
                f"split {split} has {windows} of {LEAST_WINDOWS} windows of {self._window} tokens: name a longer text"
            )
        return Text(name, split, windows)

    def _lengths(self, documents: Sequence[str]) -> list[int]:
        """Number of tokens of each document, the first documents and their beginnings only."""
        begun, left = [], _READ
        for document in documents:
            if left <= 0:
                break
            begun.append(document[:left])
            left -= len(document)
        tokens = encode(self._tokenizer, begun)
        check_embedded(self._tokenizer, chain.from_iterable(tokens), self._vocabulary)
        return list(map(len, tokens))
