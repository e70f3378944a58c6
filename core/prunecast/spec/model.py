"""The spec as data: every key of the YAML file with its meaning, range and default."""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializationInfo,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from prunecast.data import Reading, Shares
from prunecast.errors import PluginError
from prunecast.models.families.catalogue import Families
from prunecast.plugins.families import chosen_family, families_of, is_file_name
from prunecast.plugins.guard import instance
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import PluginOptions
from prunecast.spec.budget import BudgetSpec
from prunecast.spec.paths import Paths
from prunecast.spec.recovery import Recovery


@dataclass(frozen=True)
class SpecSource:
    """Origin of a spec.

    Attributes:
        path: its file, or None for a spec from text.
        text: the text as written, comments included.
        overrides: the ``KEY.PATH=VALUE`` applied to it, in order.
        typed: every text among their values.
        packaged: True for a spec that comes with prunecast: it is not the user's, so nothing is written beside it.
    """

    path: Path | None = None
    text: str = ""
    overrides: tuple[str, ...] = ()
    typed: frozenset[str] = frozenset()
    packaged: bool = False

    @property
    def folder(self) -> Path:
        """Folder that relative paths of the spec start from: that of its file, or the current one if it has none."""
        return self.path.parent if self.path else Path()


@dataclass(frozen=True)
class SpecContext:
    """Context of validating a :class:`Spec`, passed as ``context`` to ``Spec.model_validate``.

    Attributes:
        host: the available plugins; those that the spec's key ``plugins`` names are added to it.
        source: origin of the spec.
    """

    host: PluginHost
    source: SpecSource = SpecSource()


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PluginUse(_Section):
    """A plugin and its options. In YAML: a mapping of ``use`` and the options, or just the name.

    Attributes:
        kind: kind of the plugin, a key of :data:`prunecast.plugins.host.KINDS`.
        use: name of the plugin.
        options: an instance of the plugin's ``options_model``, defaults filled in.
    """

    kind: ClassVar[str]

    use: str
    options: SerializeAsAny[PluginOptions]

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = {"use": value}
        if not isinstance(value, dict):
            raise PydanticCustomError(
                "plugin_use", "must be the name of a {kind}, or a mapping with use: NAME", {"kind": cls.kind}
            )
        if not isinstance(info.context, SpecContext):
            raise TypeError("validate a spec with context=SpecContext(host)")
        options_model = cls.options_model(info.context.host, value.get("use"))
        options = {key: option for key, option in value.items() if key != "use"}
        return {"use": value["use"], "options": options_model.model_validate(options)}

    @classmethod
    def options_model(cls, host: PluginHost, use: object) -> type[PluginOptions]:
        """Options model of the plugin called ``use``. Raises ValidationError, located at ``use``, if there is none."""
        try:
            if isinstance(use, str):
                return host.find(cls.kind, use).load().options_model
            reason = (
                f"must name a {cls.kind}: write use: NAME; available: {', '.join(host.entries(cls.kind)) or 'none'}"
            )
        except PluginError as error:
            reason = str(error)
        problem = PydanticCustomError("plugin", "{reason}", {"reason": reason})
        raise ValidationError.from_exception_data(
            cls.__name__, [InitErrorDetails(type=problem, loc=("use",), input=use)]
        )

    def instance(self, host: PluginHost, *arguments: Any) -> Any:
        """A plugin with these options, made and guarded by :func:`prunecast.plugins.guard.instance`.

        Raises:
            PluginError: there is no such plugin, or its constructor fails.
        """
        return instance(host.find(self.kind, self.use), self.options, *arguments)

    @model_serializer
    def _as_written(self, info: SerializationInfo) -> dict[str, Any]:
        options = self.options.model_dump(mode="json", exclude_defaults=info.exclude_defaults)
        return {"use": self.use, **options}


class SpaceUse(PluginUse):
    """A search space and its options."""

    kind: ClassVar[str] = "space"


class PrunerUse(PluginUse):
    """A pruner and its options."""

    kind: ClassVar[str] = "pruner"


class EvaluatorUse(PluginUse):
    """An evaluator and its options."""

    kind: ClassVar[str] = "evaluator"


class PredictorUse(PluginUse):
    """A predictor and its options."""

    kind: ClassVar[str] = "predictor"


class SearcherUse(PluginUse):
    """A searcher and its options."""

    kind: ClassVar[str] = "searcher"


class ExporterUse(PluginUse):
    """An exporter and its options."""

    kind: ClassVar[str] = "exporter"

    @property
    def label(self) -> str:
        """Its name and the options that are not left at their defaults, e.g. ``gguf-q8_0``."""
        options = self.options.model_dump(mode="json", exclude_defaults=True)
        return "-".join([self.use, *(re.sub(r"[^\w.]+", "_", str(value)) for value in options.values())])


class ExecutorUse(PluginUse):
    """An executor and its options."""

    kind: ClassVar[str] = "executor"


EXECUTOR = "PRUNECAST_EXECUTOR"
"""Environment variable: name of the executor of runs whose spec and command line name none."""


class ModelSpec(_Section):
    """The dense model, and the number format and device it is measured in."""

    source: str = Field(min_length=1, description="Alias, Hub id, local folder, or a .gguf file.")
    config: str | None = Field(
        None,
        min_length=1,
        description="Its config.json, relative to the spec file: a dry run estimates the work from it, without the "
        "model.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub; the default branch if not given.")
    family: str | None = Field(
        None,
        min_length=1,
        description="Description of its layers: a family's name, or a YAML file, relative to the spec file; that of "
        "its model type if not given.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of the measurements; auto is bfloat16 where the hardware multiplies it faster, else "
        "float32.",
    )
    device: str = Field(
        "auto",
        min_length=1,
        description="Device to compute on, e.g. cpu or cuda:0; auto is the accelerator if there is one, else the CPU.",
    )
    placement: Literal["auto", "one", "spread", "stream"] = Field(
        "auto",
        description="Where the weights are. one: all on the device; spread: layers on several devices and in main "
        "memory; stream: as they are stored, in their files, and one layer at a time on the device; auto: the fastest "
        "that fits. Numbers do not depend on it.",
    )
    trust_remote_code: bool = Field(
        False,
        description="True allows code that comes with the model to be executed: a tokenizer of its own, and classes of "
        "its own. If transformers has a class for the model type, they are compared with it; else they are what is "
        "pruned.",
    )


class CollectSpec(_Section):
    """Initial design: the architectures measured before a predictor is fitted for the first time."""

    pairs: int = Field(60, ge=4, description="Number of architectures to measure before the first fit.")
    band: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        0.05,
        description="Largest distance of their sizes from the target, over which they are spread evenly, as a fraction "
        "of the dense model; null measures architectures as the space draws them, whatever the target.",
    )
    reuse: bool = Field(
        False,
        description="True reuses the pairs of other runs: all pairs that the registry has of this model under this "
        "pruner, these evaluators and this dtype are training data, and only the missing number is measured.",
    )
    architectures: str | None = Field(
        None,
        min_length=1,
        description="Text file of architectures to measure before any are proposed, relative to the spec file: one "
        "per line, in the format that prunecast registry import prints.",
    )


class WarmStartSpec(_Section):
    """Warm start: measurements of other models as the first training data."""

    models: list[str] = Field(
        min_length=1,
        description="Models in the registry that were measured with the same metrics: their sources, or the first "
        "digits of their fingerprints.",
    )


class NarrowSpec(_Section):
    """Narrowing of the most important choices."""

    share: float = Field(
        0.30, ge=0, le=1, description="Share of the choices that are narrowed, the most important ones."
    )
    most: float = Field(0.3, gt=0, le=1, description="Highest pruning rate they keep.")


class WidenSpec(_Section):
    """Widening of the least important choices."""

    share: float = Field(
        0.26, ge=0, le=1, description="Share of the choices that are widened, the least important ones."
    )
    least: float = Field(0.0, ge=0, lt=1, description="Lowest pruning rate they keep.")
    most: float = Field(0.7, gt=0, le=1, description="Highest pruning rate added to them.")
    step: float = Field(0.1, gt=0, le=1, description="Step between the pruning rates that are added.")


class RefineSpec(_Section):
    """Refinement of the space after the first fit. The default shares are the paper's: 16 and 14 of 54 choices."""

    narrow: NarrowSpec = NarrowSpec()
    widen: WidenSpec = WidenSpec()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.narrow.share + self.widen.share > 1:
            raise ValueError("narrow.share and widen.share add up to more than 1: lower one of them")
        return self


class ChooseSpec(_Section):
    """Acquisition: selection of the architectures, among those that a search found, that a round measures."""

    rule: Literal["greedy", "confidence", "spread"] = Field(
        "confidence",
        description="Strategy. greedy: the best predicted; confidence: the best confidence bounds, diversified; "
        "spread: the best predicted in each of several equal intervals of the parameter count.",
    )
    width: float = Field(
        1.0,
        description="Kappa: standard deviations by which the confidence bound lies below the predicted mean "
        "(optimistic); if negative, above it (pessimistic).",
    )
    reach: float = Field(
        0.5,
        gt=0,
        description="Diversity: correlation length of the prediction errors, in mean distances between the "
        "architectures found; a larger one selects more diverse architectures.",
    )
    within: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Trust region: largest distance of a proposal from the nearest measured architecture, as the root "
        "mean squared difference of the kept shares of all layers' heads and channels; unlimited if not given.",
    )
    shrink: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Factor on the radius of the trust region after each round that finds nothing better.",
    )


class VerifySpec(_Section):
    """Verification: measurement of the best architectures before one of them becomes the result."""

    top: int = Field(3, ge=1, description="Number of architectures to verify.")
    evaluators: list[EvaluatorUse] = Field(
        default=[],
        description="Evaluators of the verification, best on text that the search has not used; if empty, the spec's "
        "own evaluators.",
    )


class ExportSpec(_Section):
    """Export of the best architecture."""

    path: str = Field(
        min_length=1,
        description="Folder to write the pruned model to, relative to the spec file (to the current folder for a "
        "packaged spec); {name} in it is the run's name. Of several targets each has a folder of its name in it.",
    )
    targets: list[ExporterUse] | None = Field(
        None,
        min_length=1,
        description="Forms to write: exporters, huggingface if not given. The search proposes only what all of them "
        "can express.",
    )
    dtype: Literal["measured", "float32", "bfloat16", "float16"] = Field(
        "measured",
        description="Number format of the written weights; measured is the one of the measurements, whose numbers are "
        "exactly those of the file.",
    )

    @field_validator("path")
    @classmethod
    def _only_the_name_is_filled_in(cls, path: str) -> str:
        rest = path.replace("{name}", "")
        if found := re.search(r"\{[^{}]*\}?|\}", rest):
            raise ValueError(f"{found[0]} is filled in by nothing: only {{name}}, the name of the run, is")
        if len(path.splitlines()) > 1:
            raise ValueError("has a line break: leave it out")
        return path

    @field_validator("targets")
    @classmethod
    def _distinct(cls, targets: list[ExporterUse] | None) -> list[ExporterUse] | None:
        labels = [target.label for target in targets or ()]
        if len(set(labels)) < len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"{twice} is named twice: leave one out, or give it other options")
        return targets


class SplitsSpec(_Section):
    """Shares of the documents of a local file that has no splits of its own."""

    train: float = Field(Shares.train, ge=0, le=1, description="Share of the split train.")
    validation: float = Field(Shares.validation, ge=0, le=1, description="Share of the split validation.")
    test: float = Field(Shares.test, ge=0, le=1, description="Share of the split test.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test add up to {total:.4g}: make it 1")
        return self


AUTO_PER_ROUND = 8
"""Least number of proposals of a round with ``per_round: auto``."""

IN_HAND = 2
"""Tasks for each worker that are left when an overlapping round with ``per_round: auto`` begins."""

PositiveFloat = Annotated[float, Field(gt=0)]


def _add_local(path: str, info: ValidationInfo) -> str:
    """Add the plugins at ``path`` to the host. Fields are validated in order, so those after ``plugins`` find them."""
    if isinstance(info.context, SpecContext):
        try:
            source = info.context.source
            folder = source.folder / (info.data.get("folder") or "")
            info.context.host.add_local(Paths(folder, source.typed).find(path))
        except PluginError as error:
            raise ValueError(str(error)) from error
    return path


LocalPlugins = Annotated[str, Field(min_length=1), AfterValidator(_add_local)]


class Spec(_Section):
    """A spec: a model, a budget, and every setting that decides which architectures a run proposes and measures."""

    name: str = Field(
        "spec", min_length=1, description="Name of the runs; the file's name without suffix if not given."
    )
    folder: str | None = Field(
        None,
        min_length=1,
        description="Folder that relative paths of this spec start from; that of the spec file if not given. Those on "
        "the command line start from the current folder.",
    )
    model: ModelSpec
    data_dir: str | None = Field(
        None, min_length=1, description="Folder of data sets, searched before the Hub; relative to the spec file."
    )
    splits: SplitsSpec = Field(
        SplitsSpec(),
        description="Shares into which local files without splits are cut, by documents: train, validation and test.",
    )
    plugins: list[LocalPlugins] = Field(
        default=[],
        description="Python files, or folders of them, with plugins that are not installed; relative to the spec file. "
        "Their code is executed.",
    )
    space: SpaceUse = Field(description="Search space: the choices and their values.")
    pruner: PrunerUse = Field(description="Ranks the units of every layer.")
    evaluators: list[EvaluatorUse] = Field(min_length=1, description="Measure the metrics of every architecture.")
    predictor: PredictorUse = Field(description="Predicts the metrics of architectures, learning from measured ones.")
    searcher: SearcherUse = Field(description="Proposes architectures that meet the budget.")
    objective: dict[str, PositiveFloat] | None = Field(
        None,
        min_length=1,
        description="Weight of each metric in the objective of the search; equal weights for all metrics of the "
        "evaluators if not given.",
    )
    budget: BudgetSpec = Field(
        BudgetSpec(),
        description="Upper limits: a value up to 1 is a fraction of the dense model, a larger one an absolute number.",
    )
    collect: CollectSpec = CollectSpec()
    warm_start: WarmStartSpec | None = Field(
        None, description="Pairs of other models as the first training data of the predictor; none if not given."
    )
    rounds: int = Field(1, ge=1, description="Number of rounds of fitting, searching and measuring.")
    per_round: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        8,
        description="Number of proposed architectures measured in each round; auto is a whole number for each worker "
        "that is ready, at least 8 in all and, with refit_after, as many that two for each are left then.",
    )
    refit_after: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of a round after whose measurement the predictor is fitted again, and as many more are "
        "proposed; the rest is measured meanwhile, which keeps many workers busy. 1 waits for all of a round.",
    )
    neighbours: int = Field(
        0,
        ge=0,
        description="Number of the best pairs around which, before each round, local sensitivities are estimated: the "
        "changes of the metrics when a single choice takes another value, from one forward and a few backward passes. "
        "The predictor then learns the difference between the measured metrics and this Taylor expansion. Each pair "
        "costs about as much as 14 evaluations.",
    )
    choose: ChooseSpec = ChooseSpec()
    refine: RefineSpec | None = Field(
        None, description="Refinement of the space after the first fit; none if not given."
    )
    verify: VerifySpec = VerifySpec()
    baselines: list[
        Literal[
            "uniform",
            "uniform-mlp",
            "uniform-uncompensated",
            "uniform-mlp-uncompensated",
            "depth-last",
            "depth-importance",
            "random-search",
            "evolution",
        ]
    ] = Field(
        default=["uniform", "uniform-mlp"],
        description="Baselines to compare with, at the same parameter count: uniform pruning of attention and MLP, or "
        "of the MLP alone, with the pruner's compensation or without; without the layers before the last one, or "
        "without the layers that, each removed alone, are missed least; and searches without a predictor.",
    )
    baseline_evaluations: int | None = Field(
        None,
        ge=1,
        description="Number of architectures that random-search and evolution each measure; if not given, the "
        "evaluations that the run has spent: its pairs, and the cost of its local sensitivities.",
    )
    recover: Recovery | None = Field(
        None, description="Training of the best architecture after pruning; none if not given."
    )
    export: ExportSpec | None = Field(None, description="Export of the best architecture; none if not given.")
    executor: ExecutorUse | None = Field(
        None,
        description="Executor: what the workers are that measure. It changes no number and is not part of the run's "
        "identity; local, the process of the run, if neither this nor --executor nor PRUNECAST_EXECUTOR names one.",
    )
    seed: int = Field(0, ge=0, description="Seed of all random numbers.")

    _source: SpecSource = PrivateAttr(default=SpecSource())
    _host: PluginHost | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Keep the source that the validation context holds."""
        if isinstance(context, SpecContext):
            self._source = context.source
            self._host = context.host

    @property
    def source(self) -> SpecSource:
        """File, text and overrides this spec was read from; not part of its content."""
        return self._source

    @property
    def host(self) -> PluginHost:
        """Host of the plugins that this spec was validated with, its local plugins included."""
        return self._host or PluginHost.discover()

    @model_validator(mode="after")
    def _sensitivities_wait(self) -> Self:
        if self.neighbours and self.refit_after < 1:
            raise ValueError("neighbours needs complete rounds: set refit_after to 1, or neighbours to 0")
        return self

    @model_validator(mode="after")
    def _family_is_described(self) -> Self:
        try:
            _ = self.families if self.model.family else None
        except PluginError as error:
            problem = PydanticCustomError("plugin", "{reason}", {"reason": str(error)})
            details = InitErrorDetails(type=problem, loc=("model", "family"), input=self.model.family)
            raise ValidationError.from_exception_data(type(self).__name__, [details]) from error
        return self

    @property
    def families(self) -> Families:
        """Descriptions of families: for its model, the one that it names, if it names one.

        Raises:
            PluginError: it names none that there is, or whose file is valid.
        """
        named = self.model.family
        return families_of(self.host, chosen_family(self.host, named, self.paths.find) if named else None)

    @property
    def paths(self) -> Paths:
        """Places of the files that this spec names."""
        return Paths(self.source.folder / (self.folder or ""), self.source.typed)

    @property
    def reading(self) -> Reading:
        """Settings under which its data sets are read."""
        return Reading(self.paths.find, Shares(**self.splits.model_dump()))

    @property
    def data_path(self) -> Path | None:
        """``data_dir`` by :attr:`paths`, or None."""
        return self._found(self.data_dir)

    @property
    def architectures_path(self) -> Path | None:
        """``collect.architectures`` by :attr:`paths`, or None."""
        return self._found(self.collect.architectures)

    @property
    def config_path(self) -> Path | None:
        """``model.config`` by :attr:`paths`, or None."""
        return self._found(self.model.config)

    @property
    def export_path(self) -> Path | None:
        """``export.path`` by :attr:`paths`, or None; that of a packaged spec starts from the current folder."""
        if self.export is None:
            return None
        paths = Paths(Path()) if self.source.packaged and self.folder is None else self.paths
        return paths.find(self.export.path)

    @property
    def targets(self) -> dict[str, ExporterUse]:
        """Exporters of ``export`` by label; empty without an export."""
        if self.export is None:
            return {}
        return {target.label: target for target in self.export.targets or [self.exporter("huggingface")]}

    @property
    def limiting_targets(self) -> list[ExporterUse]:
        """Exporters of ``export`` that may limit the search."""
        targets = (self.export and self.export.targets) or []
        return [target for target in targets if target.label != "huggingface"]

    def exporter(self, use: str, options: dict[str, Any] | None = None) -> ExporterUse:
        """An exporter by name. Raises ValidationError if there is none, or if the options are not its own."""
        return ExporterUse.model_validate({"use": use, **(options or {})}, context=SpecContext(self.host))

    def proposals(self, workers: int = 1) -> int:
        """Number of architectures that a round proposes for so many workers."""
        if self.per_round != "auto":
            return self.per_round
        left = IN_HAND / (1 - self.refit_after) if self.refit_after < 1 else 1.0
        return max(math.ceil(AUTO_PER_ROUND / workers), math.ceil(left)) * workers

    def executed_by(self, name: str | None = None) -> ExecutorUse:
        """The executor of a run, with its options.

        Args:
            name: name of the executor; if not given, that of the spec or of the environment.

        Raises:
            PluginError: there is no such executor.
        """
        own, name = self.executor, name or (None if self.executor else os.environ.get(EXECUTOR) or "local")
        if own is not None and name in (None, own.use):
            return own
        self.host.find(ExecutorUse.kind, str(name))  # its message is one line
        return ExecutorUse.model_validate(name, context=SpecContext(self.host))

    def _found(self, path: str | None) -> Path | None:
        return None if path is None else self.paths.find(path)

    @property
    def path_notes(self) -> list[str]:
        """One sentence per relative path that is found where earlier versions looked, and not by the rule."""
        named = [self.model.source, *_datasets_in(self.model_dump(mode="json"))]
        if self.model.family and is_file_name(self.model.family):
            named.append(self.model.family)
        if self.export is not None and not self.source.packaged:
            named.append(self.export.path)
        named += [
            path for path in (self.data_dir, self.model.config, self.collect.architectures, *self.plugins) if path
        ]
        return [note for path in dict.fromkeys(named) if (note := self.paths.note(path))]

    @property
    def key(self) -> str:
        """Content key: 32 hexadecimal digits, the BLAKE2b-16 of everything but ``name``, ``folder``, ``export``,
        ``plugins``, ``executor`` and ``model.placement``. Of the export, targets that may limit the search are a part.

        It does not depend on the order of keys or on the style of the YAML. Keys and options that hold their default
        are left out, so that a new one does not change the content keys of older specs, and their runs are still found.
        """
        beside: Any = dict.fromkeys(("name", "folder", "export", "plugins", "executor"), True)
        content = self.model_dump(mode="json", exclude=beside | {"model": {"placement"}}, exclude_defaults=True)
        if limiting := self.limiting_targets:
            content["targets"] = [target.model_dump(mode="json", exclude_defaults=True) for target in limiting]
        return hashlib.blake2b(_canonical_json(content).encode(), digest_size=16).hexdigest()

    def settled(self, revision: str | None = None, dtype: str | None = None) -> Self:
        """The spec with the commit of its Hub model and the dtype that it came to; None leaves either as it is."""
        exact = {name: value for name, value in (("revision", revision), ("dtype", dtype)) if value is not None}
        return self.model_copy(update={"model": self.model.model_copy(update=exact)})

    def to_json(self) -> str:
        """Canonical JSON of the whole spec but its executor, defaults filled in: keys sorted, no spaces.

        A valid spec of its own: ``folder`` is absolute, so that its files are found from anywhere.
        """
        return _canonical_json(
            {**self.model_dump(mode="json", exclude={"executor"}), "folder": str(self.paths.folder.absolute())}
        )


def _datasets_in(content: Any) -> Iterator[str]:
    """Every ``dataset`` of a spec, without the name of a column."""
    if isinstance(content, dict):
        if isinstance(content.get("dataset"), str):
            yield from {content["dataset"], content["dataset"].rpartition("#")[0]} - {""}
        content = list(content.values())
    for item in content if isinstance(content, list) else []:
        yield from _datasets_in(item)


def _canonical_json(content: dict[str, Any]) -> str:
    # Unlike prunecast.keys.canonical_json it escapes characters that are not ASCII: stored keys of runs depend on it.
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
