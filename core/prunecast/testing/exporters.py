"""Checks of exporters."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.errors import EngineMissingError, ExportError
from prunecast.plugins.exporter import Exporter, Limits, Parity, PrunedModel, Reference, Written
from prunecast.testing.checks import Conformance, DoesNotApply, Subject, Suite, Verdict, require
from prunecast.testing.common import COMMON_CHECKS
from prunecast.testing.models import elastic_model, family_of, shape_of, tiny_model

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

ARCHITECTURES = ("2x2+16*3", "4x2+24 0+0 4x2+24", "3x1+17 0+24 4x2+0")
"""Architectures of the tiny model: all layers alike, a layer gone, components gone."""

TEXT = "the river runs past the mill, and the miller's cat sleeps in the sun. " * 3
"""Text that written files are compared on."""


class ExporterSubject(Subject[Exporter[Any]]):
    """An exporter under test."""

    def make(self) -> Exporter[Any]:
        """A new exporter."""
        return self.plugin(self.validated())

    def limits(self) -> Limits:
        """Its limits for the tiny model."""
        config = tiny_model(vocab_size=len(_tokenizer())).config
        return self.make().limits(config, family_of(config), shape_of(config))

    def written(self, folder: Path, subject: "Case | None" = None) -> Written:
        """Write a tiny model with all layers alike, or another one."""
        folder.mkdir()
        return self.make().write((subject or case()).model, folder)

    def verified(self, folder: Path, reference: Reference | None = None, subject: "Case | None" = None) -> Parity:
        """Compare what was written. Raises DoesNotApply if the engine is not installed."""
        subject = subject or case()
        try:
            return self.make().verify(subject.model, folder, reference or subject.reference)
        except EngineMissingError as error:
            raise DoesNotApply(str(error)) from error

    def exercise(self) -> None:
        """Write a tiny model. Comparing it, which takes a process of its own, has checks of its own."""
        with TemporaryDirectory() as scratch:
            self.written(Path(scratch, "model"))


class Case:
    """A pruned tiny model.

    Attributes:
        model: as exporters get it.
        reference: what it computes.
    """

    def __init__(self, architecture: str) -> None:
        from prunecast.export.deliver import Deliverable, pruned_model
        from prunecast.models.source import resolve_source

        tokenizer = _tokenizer()
        dense = tiny_model(vocab_size=len(tokenizer))
        config = dense.config
        self._folder = TemporaryDirectory()
        config.save_pretrained(self._folder.name)
        tokenizer.save_pretrained(self._folder.name)
        source = resolve_source(self._folder.name)
        chosen = Deliverable.of(elastic_model(dense), Architecture.parse(architecture))
        self.model: PrunedModel = pruned_model("tiny", config, family_of(config), chosen, tokenizer, source)
        tokens = tuple(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
        self.reference = Reference(chosen.logits, tokens, (), self.model.shape.context)


def _tokenizer() -> "PreTrainedTokenizerBase":
    """A tokenizer of bytes with one merge, as some engines load none without."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
    tokenizer = Tokenizer(models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=[("t", "h")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="!")  # type: ignore[no-untyped-call]
    return made


@cache
def case(architecture: str = ARCHITECTURES[0]) -> Case:
    """A pruned tiny model, the same one every time."""
    return Case(architecture)


def limits_accept_the_dense_model(subject: ExporterSubject) -> None:
    """``limits`` returns Limits that the dense model is within."""
    limits = subject.limits()
    require(isinstance(limits, Limits), f"limits is a {type(limits).__name__}, not Limits")
    require(limits.problem(case().model.shape.dense) is None, "the dense model is beyond the limits")


def problems_are_one_line(subject: ExporterSubject) -> None:
    """A problem is None or one line; it is the same every time."""
    limits = subject.limits()
    for text in ARCHITECTURES:
        problem = limits.problem(Architecture.parse(text))
        require(problem is None or (isinstance(problem, str) and problem), f"the problem of {text} is {problem!r}")
        require("\n" not in (problem or ""), f"the problem of {text} has several lines")
        require(problem == limits.problem(Architecture.parse(text)), f"the problem of {text} changes")


def what_is_within_the_limits_is_written_and_computes_the_same(subject: ExporterSubject) -> None:
    """Every architecture within the limits can be written, has its entry, loads, and is the pruned model."""
    limits = subject.limits()
    for text in ARCHITECTURES:
        if limits.problem(Architecture.parse(text)) is not None:
            continue
        one = case(text)
        with TemporaryDirectory() as scratch:
            written = subject.written(folder := Path(scratch, "model"), one)
            require(isinstance(written, Written), f"write returns a {type(written).__name__}, not Written")
            require((folder / subject.make().entry).is_file(), f"there is no {subject.make().entry}")
            require(written.parameters > 0, f"{text} has {written.parameters} parameters")
            parity = subject.verified(folder, subject=one)
            require(isinstance(parity, Parity), f"verify returns a {type(parity).__name__}, not Parity")
            require(parity.max_difference >= 0, f"the largest difference of {text} is {parity.max_difference}")


def another_model_is_found(subject: ExporterSubject) -> None:
    """``verify`` raises ExportError for files that are not those of the reference."""
    right = case().reference

    def wrong(tokens: "Tensor") -> "Tensor":
        return right.logits(tokens).flip(-1)

    with TemporaryDirectory() as scratch:
        subject.written(folder := Path(scratch, "model"))
        _refused(lambda: subject.verified(folder, Reference(wrong, right.tokens, right.bos, right.context)), "another")


def a_damaged_file_is_found(subject: ExporterSubject) -> None:
    """``verify`` raises ExportError if the entry has lost its end."""
    with TemporaryDirectory() as scratch:
        subject.written(folder := Path(scratch, "model"))
        entry = folder / subject.make().entry
        entry.write_bytes(entry.read_bytes()[: entry.stat().st_size // 2])
        _refused(lambda: subject.verified(folder), "a damaged")


def writing_twice_gives_the_same_files(subject: ExporterSubject) -> None:
    """The same model gives files of the same names."""
    with TemporaryDirectory() as scratch:
        folders = [Path(scratch, name) for name in ("one", "two")]
        for folder in folders:
            subject.written(folder)
        one, two = ({file.relative_to(folder).as_posix() for file in folder.rglob("*")} for folder in folders)
        require(one == two, f"other files the second time: {sorted(one ^ two)}")


def the_weights_are_left_as_found(subject: ExporterSubject) -> None:
    """``write`` and ``verify`` leave the weights unchanged."""
    one = Case(ARCHITECTURES[0])
    before = {name: tensor.clone() for name, tensor in one.model.state.items()}
    with TemporaryDirectory() as scratch:
        subject.written(folder := Path(scratch, "model"), one)
        with suppress(DoesNotApply):
            subject.verified(folder, subject=one)
    for name, tensor in before.items():
        require(tensor.equal(one.model.state[name]), f"{name} is changed")


def _refused(verify: Callable[[], object], what: str) -> None:
    try:
        verify()
    except ExportError as error:
        require("\n" not in str(error), f"the error has several lines: {error}")
    else:
        require(False, f"{what} file passes")


EXPORTERS: Suite[Any] = Suite(
    ExporterSubject,
    (
        *COMMON_CHECKS,
        limits_accept_the_dense_model,
        problems_are_one_line,
        what_is_within_the_limits_is_written_and_computes_the_same,
        another_model_is_found,
        a_damaged_file_is_found,
        writing_twice_gives_the_same_files,
        the_weights_are_left_as_found,
    ),
)
"""Suite of exporters."""


class ExporterConformance(Conformance, suite=EXPORTERS):
    """Base of a test class for an exporter: set ``plugin``, and every check of exporters becomes a test."""


def check_exporter(
    plugin: type[Exporter[Any]],
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Run every check on an exporter. Raises CheckFailed, with one line per failed check, if any fails.

    The arguments are those of :func:`prunecast.testing.check_predictor`.
    """
    return EXPORTERS.check(plugin, options, expected_failures)
