"""Catalog of the built-in data sets: their files in a data folder, and their locations on the Hub."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from prunecast.data.dataset import DataSet, Row, column_texts, missing_split
from prunecast.data.files import read_json, read_lines
from prunecast.data.hub import HubPart
from prunecast.data.spacing import spaced_like_wikitext
from prunecast.errors import DataError

_CONVERTED = "refs/convert/parquet"
"""Branch of the Hub with the rows of data sets whose main branch holds only a loading script."""


@dataclass(frozen=True)
class CatalogSet(DataSet):
    """A data set with a known layout.

    Attributes:
        name: name of the data set.
        files: path of each split, relative to the data folder; a ``.jsonl.gz`` file, or a text file with one row per
            line.
        hub: location of each split on the Hub. A split may be missing here or in ``files``.
        to_row: function that converts a row of the Hub to the form of a row of the file.
        to_documents: function that converts the rows of a split to documents.
    """

    name: str
    files: Mapping[str, str]
    hub: Mapping[str, HubPart]
    to_row: Callable[[Row], Row]
    to_documents: Callable[[list[Row]], list[str]]

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that a file or the Hub provides."""
        return tuple(dict.fromkeys([*self.files, *self.hub]))

    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """Rows of the file in the data folder or, if there is none, of the Hub."""
        if split not in self.splits:
            raise missing_split(self.name, split, self.splits)
        path = folder / self.files[split] if folder and split in self.files else None
        if path and path.is_file():
            return read_json(path) if path.suffix == ".gz" else read_lines(path)
        return self._hub_rows(split, path)

    def documents(self, rows: list[Row]) -> list[str]:
        """Documents of the rows."""
        return self.to_documents(rows)

    def identity(self, split: str) -> tuple[str, ...]:
        """Location on the Hub, or name and split if the Hub does not have the split."""
        return self.hub[split].identity if split in self.hub else (self.name, split)

    def hub_id(self, split: str) -> tuple[str, str | None] | None:
        """Id and configuration on the Hub."""
        part = self.hub.get(split)
        return (part.path, part.config) if part else None

    def _hub_rows(self, split: str, path: Path | None) -> list[Row]:
        wanted = path or Path(self.files.get(split, ""))
        searched = f"no file {wanted}" + ("" if path else " because no data folder is set")
        remedy = "set PRUNECAST_DATA to a folder that has it, or go online"
        if split not in self.hub:
            raise DataError(
                f"data set {self.name}, split {split}: {searched}; set PRUNECAST_DATA to a folder that has it"
            )
        try:
            return [self.to_row(row) for row in self.hub[split].rows()]
        except DataError as error:
            raise DataError(f"data set {self.name}, split {split}: {searched}, and {error}; {remedy}") from error


class CalibrationSet(CatalogSet):
    """Calibration text: ``calibration`` is all of it, ``validation`` every tenth document, ``train`` the others.

    To evaluate the search on ``validation``, calibrate on ``train``: text of the same kind without shared documents.
    """

    @property
    def splits(self) -> tuple[str, ...]:
        """The whole text and its two parts."""
        return (*super().splits, "train", "validation")

    def rows(self, split: str, folder: Path | None) -> list[Row]:
        """Rows of the whole text or of one of its parts."""
        if split not in self.splits:
            raise missing_split(self.name, split, self.splits)
        rows = super().rows("calibration", folder)
        if split == "validation":
            return rows[9::10]
        return rows if split == "calibration" else [row for number, row in enumerate(rows, 1) if number % 10]

    def identity(self, split: str) -> tuple[str, ...]:
        """Identity of the whole text, followed by the name of the part."""
        return super().identity("calibration") + (() if split == "calibration" else (split,))


def _rows_joined_by_blank_lines(rows: list[Row]) -> list[str]:
    # Rows of the Hub end with a newline, but blank rows are empty; in the files a blank row is a space and a newline.
    texts = [row["text"] for row in rows]
    return ["\n\n".join("" if text == " \n" else text for text in texts)]


def _lines_joined_by_spaces(rows: list[Row]) -> list[str]:
    return [" ".join(row["text"].strip() for row in rows)]


def _texts(rows: list[Row]) -> list[str]:
    return column_texts(rows, "text", "catalog")


def _spaced_texts(rows: list[Row]) -> list[str]:
    return [spaced_like_wikitext(text) for text in _texts(rows)]


def _instructions(rows: list[Row]) -> list[str]:
    return ["\n".join(filter(None, (row["instruction"], row["input"], row["output"]))) for row in rows]


def _questions_with_answers(rows: list[Row]) -> list[str]:
    # One document, because a single question is too short to sample windows from.
    return ["\n\n".join(f"Question: {row['question']}\nAnswer: {row['choices'][row['answer']]}" for row in rows)]


def _filled_sentences(rows: list[Row]) -> list[str]:
    return ["\n\n".join(row["question"].replace("_", row["choices"][row["answer"]]) for row in rows)]


def _sentence(row: Row) -> Row:
    return {"text": row["sentence"]}


def _instruction(row: Row) -> Row:
    return {key: row[key] for key in ("instruction", "input", "output")}


def _question(question: str, choices: list[str], answer: int) -> Row:
    return {"question": question, "choices": choices, "answer": answer}


def _labelled(column: str) -> Callable[[Row], Row]:
    def to_row(row: Row) -> Row:
        choices = row["choices"]
        return _question(row[column], list(choices["text"]), list(choices["label"]).index(row["answerKey"]))

    return to_row


def _piqa(row: Row) -> Row:
    return _question(row["goal"], [row["sol1"], row["sol2"]], row["label"])


def _winogrande(row: Row) -> Row:
    return _question(row["sentence"], [row["option1"], row["option2"]], int(row["answer"]) - 1)


def _social_iqa(row: Row) -> Row:
    choices = [row["answerA"], row["answerB"], row["answerC"]]
    return _question(f"{row['context']} {row['question']}", choices, int(row["label"]) - 1)


def _on_hub(part: HubPart, *splits: str) -> dict[str, HubPart]:
    return {split: replace(part, split=split) for split in splits}


def _questions(
    name: str,
    part: HubPart,
    splits: tuple[str, ...],
    to_row: Callable[[Row], Row],
    file: str | None = None,
    to_documents: Callable[[list[Row]], list[str]] = _questions_with_answers,
) -> CatalogSet:
    files = {split: f"zeroshot/{file or name}.{split}.jsonl.gz" for split in splits}
    return CatalogSet(name, files, _on_hub(part, *splits), to_row, to_documents)


def _calibration(
    name: str, file: str, part: HubPart, to_documents: Callable[[list[Row]], list[str]] = _texts
) -> CatalogSet:
    files = {"calibration": f"calibration/{file}.jsonl.gz"}
    return CalibrationSet(name, files, {"calibration": part}, dict, to_documents)


_WIKIPEDIA = HubPart("wikimedia/wikipedia", "20231101.en", first=2000)
_ALL_SPLITS = ("train", "validation", "test")
_LABELLED_SPLITS = ("train", "validation")  # the answers to the test questions of these sets are not public

CATALOG: Mapping[str, CatalogSet] = {
    data_set.name: data_set
    for data_set in (
        CatalogSet(
            "wikitext2",
            {
                "train": "wikitext2/wiki.train.raw",
                "validation": "wikitext2/wiki.valid.tokens",
                "test": "wikitext2/wiki.test.raw",
            },
            _on_hub(HubPart("Salesforce/wikitext", "wikitext-2-raw-v1"), *_ALL_SPLITS),
            dict,
            _rows_joined_by_blank_lines,
        ),
        CatalogSet(
            "ptb",
            {"train": "ptb/ptb.train.txt", "validation": "ptb/ptb.valid.txt", "test": "ptb/ptb.test.txt"},
            _on_hub(HubPart("ptb-text-only/ptb_text_only", revision=_CONVERTED), *_ALL_SPLITS),
            _sentence,
            _lines_joined_by_spaces,
        ),
        CatalogSet(
            "mmlu",
            {split: f"mmlu/{split}.jsonl.gz" for split in ("dev", "validation", "test")},
            _on_hub(HubPart("cais/mmlu", "all"), "dev", "validation", "test"),
            dict,
            _questions_with_answers,
        ),
        _calibration("c4", "c4_sample", HubPart("allenai/c4", "en", first=1000)),
        _calibration("books", "books", HubPart("emozilla/pg19", first=20)),
        _calibration("wikipedia", "wikipedia_sample", _WIKIPEDIA),
        _calibration("wikipedia-spaced", "wikipedia_sample", _WIKIPEDIA, _spaced_texts),
        CatalogSet(
            "alpaca",
            {"train": "alpaca/alpaca_random9k.jsonl.gz", "extra": "alpaca/alpaca_filtered_extra.jsonl.gz"},
            {"train": HubPart("tatsu-lab/alpaca")},
            _instruction,
            _instructions,
        ),
        _questions("arc_easy", HubPart("allenai/ai2_arc", "ARC-Easy"), _ALL_SPLITS, _labelled("question")),
        _questions("arc_challenge", HubPart("allenai/ai2_arc", "ARC-Challenge"), _ALL_SPLITS, _labelled("question")),
        _questions("openbookqa", HubPart("allenai/openbookqa", "main"), _ALL_SPLITS, _labelled("question_stem")),
        _questions("piqa", HubPart("ybisk/piqa", revision=_CONVERTED), _LABELLED_SPLITS, _piqa),
        _questions(
            "winogrande",
            HubPart("allenai/winogrande", "winogrande_xl"),
            _LABELLED_SPLITS,
            _winogrande,
            "winogrande_xl",
            _filled_sentences,
        ),
        _questions("social_iqa", HubPart("allenai/social_i_qa", revision=_CONVERTED), _LABELLED_SPLITS, _social_iqa),
    )
}
"""The built-in data sets by name."""
