"""Delivery: a pruned model written in the form of a target, and compared there with the measured model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from prunecast.architecture.architecture import Architecture
from prunecast.errors import EngineMissingError, ExportError
from prunecast.export.card import CardContent, render_card
from prunecast.export.huggingface import TRANSFORMERS_FILES, stored_weights, write_model
from prunecast.export.sliced import loaded
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import shape_of
from prunecast.models.pruned.lineage import Lineage
from prunecast.models.source import ModelSource
from prunecast.owned.folder import FolderKind, OwnedFolder
from prunecast.owned.manifest import Manifest, Origin
from prunecast.plugins.exporter import Exporter, Parity, PrunedModel, Reference, Written

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from prunecast.models.elastic import ElasticModel

MANIFEST = "prunecast_export.json"
ARCHITECTURE_FILE, SPEC_FILE, CARD_FILE = "architecture.json", "prunecast_spec.yaml", "README.md"

EXPORT = FolderKind(
    noun="export",
    manifest=MANIFEST,
    entry=MANIFEST,
    documents=frozenset({CARD_FILE}),
    reserved=(MANIFEST, SPEC_FILE, ARCHITECTURE_FILE, CARD_FILE, *TRANSFORMERS_FILES, "*.gguf"),
)
"""Kind of folder of an export, whatever its target."""

NO_ORIGIN = Origin()
"""Origin of a model of no run."""


@dataclass(frozen=True)
class Deliverable:
    """A model to write.

    Attributes:
        model: the measured model, in the dtype it was measured in.
        state: its weights under the stock names, sliced.
        architecture: sizes that it keeps.
    """

    model: "PreTrainedModel"
    state: "Mapping[str, Tensor]"
    architecture: Architecture

    @classmethod
    def of(cls, elastic: "ElasticModel", architecture: Architecture) -> "Deliverable":
        """An architecture of the elastic model, which is left there."""
        elastic.apply(architecture)
        return cls(elastic.model, elastic.state_dict(), architecture)

    def logits(self, tokens: "Tensor") -> "Tensor":
        """Logits of the model, (B, T, V), for int64 token ids (B, T) on the CPU."""
        logits: Tensor = self.model(tokens.to(self.model.device), use_cache=False).logits
        return logits


@dataclass(frozen=True)
class ExportReport:
    """Report of an export.

    Attributes:
        folder: the exported folder, absolute.
        target: name of the exporter.
        architecture: text of what the model keeps.
        parameters: number of parameters in the weights; tied embeddings count once.
        bytes: size of all files of the export.
        files: names of all files of the export, sorted; foreign files in the folder are not listed.
        notes: one line for each substitution or other difference from the measured model.
        parity: the files in their engine, compared with the measured model; without times and speeds if nothing was
            written. None if the engine is not installed.
        unchanged: True if the folder held the same export already, so that nothing was written.
    """

    folder: Path
    target: str
    architecture: str
    parameters: int
    bytes: int
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    parity: Parity | None = None
    unchanged: bool = False

    @classmethod
    def of(cls, target: str, folder: Path, manifest: Manifest, unchanged: bool) -> Self:
        """The report of the export that a folder holds."""
        files, parity = sorted([*manifest.files, MANIFEST]), manifest.facts.get("parity")
        return cls(
            folder=folder,
            target=target,
            architecture=manifest.origin.subject["architecture"],
            parameters=manifest.facts["parameters"],
            bytes=sum((folder / name).stat().st_size for name in files),
            files=tuple(files),
            notes=tuple(manifest.facts.get("notes", ())),
            parity=None if parity is None else Parity(**parity | {"notes": tuple(parity["notes"])}),
            unchanged=unchanged,
        )

    @property
    def max_logit_difference(self) -> float | None:
        """Largest absolute difference of what was compared; None if nothing was."""
        return None if self.parity is None else self.parity.max_difference

    def to_json(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            **asdict(self),
            "folder": str(self.folder),
            "files": list(self.files),
            "max_logit_difference": self.max_logit_difference,
        }


def folder_kind(exporter: Exporter[Any]) -> FolderKind:
    """The kind of folder that an exporter writes."""
    names = (MANIFEST, SPEC_FILE, ARCHITECTURE_FILE, CARD_FILE, exporter.entry)
    return replace(EXPORT, entry=exporter.entry, reserved=(*names, *exporter.reserved))


def of_architecture(origin: Origin, architecture: Architecture) -> Origin:
    """The origin with an architecture as a part of its subject."""
    return replace(origin, subject={**origin.subject, "architecture": str(architecture)})


def pruned_model(
    name: str,
    config: "PreTrainedConfig",
    family: Family,
    chosen: Deliverable,
    tokenizer: "PreTrainedTokenizerBase",
    source: ModelSource,
    lineage: Lineage = (),
) -> PrunedModel:
    """The PrunedModel that is passed to exporters.

    Args:
        name: name of the model.
        config: config of the dense model.
        family: description of its family, as settled for this config.
        chosen: the model to write.
        tokenizer: its tokenizer.
        source: files of the dense model.
        lineage: the models it is made from, the original first, the dense model last.
    """
    architecture = chosen.architecture
    weights = stored_weights(config, family, chosen.state)
    return PrunedModel(
        name=name,
        config=config,
        family=family,
        shape=shape_of(config, family),
        architecture=architecture,
        state=chosen.state,
        tokenizer=tokenizer,
        source=source,
        lineage=lineage,
        save=partial(
            write_model, config=config, family=family, weights=weights, architecture=architecture, lineage=lineage
        ),
        load=partial(loaded, config, family, chosen.state, architecture),
    )


@contextmanager
def as_reference(
    chosen: Deliverable, dtype: "torch.dtype", text: tuple[int, ...], bos: tuple[int, ...], context: int
) -> Iterator[Reference]:
    """The measured model as a reference, computing in float32.

    Its weights and those of its files are widened to float32 without loss, as two orders of summation already differ
    visibly in bfloat16.

    Args:
        chosen: the model.
        dtype: number format that it was measured in, which it has again afterwards.
        text: ids of a text to compare perplexities on.
        bos: ids to put in front of a text.
        context: most tokens that the model reads at once.
    """
    import torch

    from prunecast.models.elastic import convert_parameters

    convert_parameters(chosen.model, torch.float32)
    try:
        yield Reference(chosen.logits, text, bos, context)
    finally:
        convert_parameters(chosen.model, dtype)


@dataclass(frozen=True)
class DenseSpeed:
    """Speed of the dense model in the engine of a target.

    Attributes:
        prefill, decode: tokens a second, reading and generating; None if the engine does not report it.
        problem: why it has not been timed; empty if it has.
    """

    prefill: float | None = None
    decode: float | None = None
    problem: str = ""

    @classmethod
    def of(cls, exporter: Exporter[Any], dense: PrunedModel, reference: Reference) -> Self:
        """Write the dense model to a folder that is removed again, and load it in the engine.

        Args:
            exporter: the exporter of the target.
            dense: the dense model.
            reference: the dense model as it was measured.
        """
        try:
            with TemporaryDirectory() as scratch:
                exporter.write(dense, Path(scratch))
                parity = exporter.verify(dense, Path(scratch), reference)
        except (ExportError, OSError) as error:
            return cls(problem=str(error))
        return cls(parity.prefill, parity.decode)

    def beside(self, parity: Parity) -> Parity:
        """The comparison of files, completed by the speed of the dense model and a note with the ratio."""
        both = (("reads", parity.prefill, self.prefill), ("generates", parity.decode, self.decode))
        ratios = [f"{verb} {own / dense:.2f}" for verb, own, dense in both if own and dense]
        if self.problem:
            note = f"not compared with the speed of the dense model: {self.problem}"
        elif ratios:
            note = f"{' and '.join(ratios)} times as many tokens a second as the dense model in the same engine"
        else:
            return parity
        return replace(parity, dense_prefill=self.prefill, dense_decode=self.decode, notes=(*parity.notes, note))


def deliver(
    exporter: Exporter[Any],
    target: str,
    model: PrunedModel,
    card: CardContent,
    folder: Path,
    reference: Reference,
    *,
    origin: Origin = NO_ORIGIN,
    overwrite: bool = False,
    require_verified: bool = False,
    dense: DenseSpeed | None = None,
) -> ExportReport:
    """Write a pruned model for a target, and verify in a fresh process that what was written is the measured model.

    The export is written completely or not at all. Foreign files in the folder stay; files of an earlier export
    of the same subject are replaced where they differ.

    Args:
        exporter: the exporter of the target.
        target: its name.
        model: the model; its weights are written in their own dtypes unless the exporter has a dtype of its own.
        card: contents of the model card.
        folder: folder to write, absolute.
        reference: the measured model.
        origin: origin of the model; the architecture is added to its subject.
        overwrite: True allows an export of another subject, and files of an export edited since, to be replaced.
        require_verified: True refuses files whose engine is not installed.
        dense: speed of the dense model in the engine, reported beside that of the files; None if it is not wanted.

    Raises:
        ExportError: files are in the way, the disk is full, or the written files do not load, or do not compute what
            the measured model does. The folder is as it was before, unless the message says where its files are.
        EngineMissingError: ``require_verified``, and the engine is not installed.
    """
    owned, origin = OwnedFolder(folder_kind(exporter), folder), of_architecture(origin, model.architecture)
    owned.check(origin, overwrite)
    owned.check_room(origin, sum(tensor.nbytes for tensor in model.state.values()))
    with owned.staged() as staged:
        written = exporter.write(model, staged.path)
        parity = _verified(exporter, model, staged.path, reference, require_verified)
        if parity is not None and dense is not None:
            parity = dense.beside(parity)
        _write_documents(staged.path, model, card, written, parity)
        manifest, changed = staged.publish(origin, _facts(written, parity), overwrite)
    report = ExportReport.of(target, folder, manifest, unchanged=not changed)
    return replace(report, parity=parity)


def _verified(
    exporter: Exporter[Any], model: PrunedModel, folder: Path, reference: Reference, require_verified: bool
) -> Parity | None:
    """Comparison of the files; None if the engine is not installed."""
    try:
        return exporter.verify(model, folder, reference)
    except EngineMissingError as error:
        if require_verified:
            raise EngineMissingError(f"{error}, or leave --require-verified out") from error
        return None


_TIMES = ("load_seconds", "prefill", "decode", "dense_prefill", "dense_decode")


def _facts(written: Written, parity: Parity | None) -> dict[str, Any]:
    """Facts for the manifest. Times are not among them, so that files written again are the same."""
    compared = None if parity is None else asdict(parity) | dict.fromkeys(_TIMES)
    return {"parameters": written.parameters, "notes": list(written.notes), "parity": compared}


def _write_documents(
    folder: Path, model: PrunedModel, card: CardContent, written: Written, parity: Parity | None
) -> None:
    texts = {
        ARCHITECTURE_FILE: model.architecture.to_json() + "\n",
        SPEC_FILE: card.spec_text,
        CARD_FILE: render_card(card, model.architecture, written, parity),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
