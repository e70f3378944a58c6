"""What a spec says, as data: every key of the YAML file with its meaning, range and default."""

import hashlib
import json
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
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from prunecast.architecture.shape import Quantity
from prunecast.errors import PluginError
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import PluginOptions
from prunecast.spec.recovery import Recovery


@dataclass(frozen=True)
class SpecSource:
    """Where a spec came from.

    Attributes:
        path: its file, or None for a spec from text.
        text: the text as written, comments included.
        overrides: the ``KEY.PATH=VALUE`` applied to it, in order.
    """

    path: Path | None = None
    text: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """What relative paths of the spec are relative to: the folder of its file, or of the process."""
        return self.path.parent if self.path else Path()


@dataclass(frozen=True)
class SpecContext:
    """What validating a :class:`Spec` needs besides data: pass it as ``context`` to ``Spec.model_validate``."""

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


class ModelSpec(_Section):
    """The dense model, and how to hold it."""

    source: str = Field(min_length=1, description="Alias, Hub id, local folder, or a .gguf file.")
    config: str | None = Field(
        None,
        min_length=1,
        description="Its config.json, relative to the spec file: a dry run outlines the work from it, without the "
        "model.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub; its default branch if not given.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format while measuring; auto is bfloat16 where products are faster so, else float32.",
    )
    device: str = Field(
        "auto", min_length=1, description="Where to compute, e.g. cpu or cuda:0; auto takes the fastest."
    )
    trust_remote_code: bool = Field(False, description="Whether code that comes with the model may be executed.")


class CollectSpec(_Section):
    """What is measured before a predictor is fitted for the first time."""

    pairs: int = Field(60, ge=4, description="Number of architectures to measure before the first fit.")
    band: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        0.05,
        description="How far their budgets spread around the target, as a fraction of the dense model; "
        "null takes them as the space draws them, wherever the target is.",
    )
    reuse: bool = Field(
        False,
        description="Whether pairs of other runs count: all the registry has of this model under this pruner, these "
        "evaluators and this dtype are learnt from, and only what is missing is measured.",
    )
    architectures: str | None = Field(
        None,
        min_length=1,
        description="Text file of architectures to measure before any is proposed, relative to the spec file: one a "
        "line, as prunecast registry import prints them.",
    )


class WarmStartSpec(_Section):
    """What was measured of other models, to begin with."""

    models: list[str] = Field(
        min_length=1,
        description="Sources, or first digits of fingerprints, of models in the registry that were measured with the "
        "same metrics.",
    )


class NarrowSpec(_Section):
    """What becomes of the choices that matter most."""

    share: float = Field(0.30, ge=0, le=1, description="Share of the choices, those that matter most.")
    most: float = Field(0.3, gt=0, le=1, description="Hardest cut left to them, as a rate.")


class WidenSpec(_Section):
    """What becomes of the choices that matter least."""

    share: float = Field(0.26, ge=0, le=1, description="Share of the choices, those that matter least.")
    least: float = Field(0.0, ge=0, lt=1, description="Mildest cut left to them, as a rate.")
    most: float = Field(0.7, gt=0, le=1, description="Hardest cut added to them, as a rate.")
    step: float = Field(0.1, gt=0, le=1, description="Step of the rates that are added.")


class RefineSpec(_Section):
    """How the space is refined after the first fit. The shares are the paper's 16 and 14 of 54 choices."""

    narrow: NarrowSpec = NarrowSpec()
    widen: WidenSpec = WidenSpec()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.narrow.share + self.widen.share > 1:
            raise ValueError("narrow.share and widen.share are of the same choices: give at most 1 together")
        return self


class ChooseSpec(_Section):
    """Which of the architectures a search found a round measures."""

    rule: Literal["greedy", "confidence", "spread"] = Field(
        "confidence",
        description="greedy: best predicted; confidence: best lower confidence bounds, unlike one another; spread: "
        "best predicted in equal intervals of the parameter count.",
    )
    width: float = Field(
        1.0,
        description="Standard deviations that a confidence bound lies below the mean, in hope; negative, above it, in "
        "caution.",
    )
    reach: float = Field(
        0.5,
        gt=0,
        description="How far knowledge of one architecture reaches, in mean distances of those found; larger asks for "
        "more diverse ones.",
    )
    within: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Trust region: the search goes no further than this from everything measured, in root mean squared "
        "differences of the kept shares of all layers' heads and channels. Without it, anywhere.",
    )
    shrink: float = Field(
        1.0,
        gt=0,
        le=1,
        description="What the reach of the trust region is multiplied by after each round that finds nothing better.",
    )


class VerifySpec(_Section):
    """How the last round's best architectures are measured before one of them is believed."""

    top: int = Field(3, ge=1, description="Number of architectures to verify.")
    evaluators: list[EvaluatorUse] = Field(
        default=[],
        description="What measures them, best with text the search has not seen; empty: the spec's own evaluators.",
    )


class ExportSpec(_Section):
    """Where the winner goes."""

    path: str = Field(min_length=1, description="Folder to write the smaller model to.")


PositiveFloat = Annotated[float, Field(gt=0)]


def _add_local(path: str, info: ValidationInfo) -> str:
    """Give the host the plugins at ``path``; fields of a spec are validated in order, so those below find them."""
    if isinstance(info.context, SpecContext):
        try:
            info.context.host.add_local(info.context.source.folder / Path(path).expanduser())
        except PluginError as error:
            raise ValueError(str(error)) from error
    return path


LocalPlugins = Annotated[str, Field(min_length=1), AfterValidator(_add_local)]


class Spec(_Section):
    """A spec: one model, one budget, and everything that decides what a run measures and proposes."""

    name: str = Field(
        "spec", min_length=1, description="What to call the runs; the file's name without suffix if not given."
    )
    model: ModelSpec
    data_dir: str | None = Field(
        None, min_length=1, description="Folder of data sets, looked through before the Hub; relative to the spec file."
    )
    plugins: list[LocalPlugins] = Field(
        default=[],
        description="Python files, or folders of them, with plugins that are not installed; relative to the spec file. "
        "Their code is run.",
    )
    space: SpaceUse = Field(description="Search space: which choices there are.")
    pruner: PrunerUse = Field(description="Ranks the units of every layer.")
    evaluators: list[EvaluatorUse] = Field(min_length=1, description="What is measured of every architecture.")
    predictor: PredictorUse = Field(description="Learns from measured architectures.")
    searcher: SearcherUse = Field(description="Proposes architectures that meet the budget.")
    objective: dict[str, PositiveFloat] | None = Field(
        None,
        min_length=1,
        description="Weight of each metric in what is searched for; all metrics of the evaluators alike if not given.",
    )
    budget: dict[Quantity, PositiveFloat] = Field(
        default={}, description="Upper limits: up to 1 a fraction of the dense model, above 1 an absolute number."
    )
    collect: CollectSpec = CollectSpec()
    warm_start: WarmStartSpec | None = Field(
        None, description="Pairs of other models that the predictor begins with; none if not given."
    )
    rounds: int = Field(1, ge=1, description="How often to fit, search and measure.")
    per_round: int = Field(8, ge=1, description="Number of proposed architectures measured each round.")
    neighbours: int = Field(
        0,
        ge=0,
        description="Around how many of the best pairs, before each round, it is estimated what steps of any size in "
        "single choices change, from one forward and a few backward passes; the predictor then learns what is missing "
        "to their sum. Each costs as much as some twenty evaluations.",
    )
    choose: ChooseSpec = ChooseSpec()
    refine: RefineSpec | None = Field(
        None, description="How the space is refined after the first fit; not at all if not given."
    )
    verify: VerifySpec = VerifySpec()
    baselines: list[
        Literal[
            "uniform",
            "uniform-mlp",
            "uniform-uncompensated",
            "uniform-mlp-uncompensated",
            "random-search",
            "evolution",
        ]
    ] = Field(
        default=["uniform", "uniform-mlp"],
        description="What to compare with, at the same parameter count: attention and MLP cut alike, or the MLP alone, "
        "with the pruner's compensation or without; searches without a predictor.",
    )
    baseline_evaluations: int | None = Field(
        None,
        ge=1,
        description="Architectures that random-search and evolution measure each. If not given, as many as the run "
        "itself: those it learnt from, and those that its neighbours cost as much as.",
    )
    recover: Recovery | None = Field(
        None, description="How the winner is trained after pruning; not at all if not given."
    )
    export: ExportSpec | None = Field(None, description="Where to write the winner; nowhere if not given.")
    seed: int = Field(0, ge=0, description="Seed of everything random.")

    _source: SpecSource = PrivateAttr(default=SpecSource())

    def model_post_init(self, context: Any, /) -> None:
        """Keep the source that the validation context names."""
        if isinstance(context, SpecContext):
            self._source = context.source

    @property
    def source(self) -> SpecSource:
        """File, text and overrides this spec was read from; not part of its content."""
        return self._source

    @property
    def data_path(self) -> Path | None:
        """``data_dir`` seen from the folder of the spec file (of the process, for a spec from text), or None."""
        if self.data_dir is None:
            return None
        return self.source.folder / Path(self.data_dir).expanduser()

    @property
    def architectures_path(self) -> Path | None:
        """``collect.architectures`` seen from the folder of the spec file (of the process, for a spec from text)."""
        if self.collect.architectures is None:
            return None
        folder = self.source.path.parent if self.source.path else Path()
        return folder / Path(self.collect.architectures).expanduser()

    @property
    def config_path(self) -> Path | None:
        """``model.config`` seen from the folder of the spec file (of the process, for a spec from text), or None."""
        folder = self.source.path.parent if self.source.path else Path()
        return None if self.model.config is None else folder / self.model.config

    @property
    def key(self) -> str:
        """Content key: 32 hexadecimal digits, the BLAKE2b-16 of everything but ``name``, ``export`` and ``plugins``.

        The order of keys and the way they are written are no part of it. What holds its default is left out, so that a
        new key or option leaves the specs written before it their runs.
        """
        content = self.model_dump(mode="json", exclude={"name", "export", "plugins"}, exclude_defaults=True)
        return hashlib.blake2b(_canonical_json(content).encode(), digest_size=16).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON of the whole spec, defaults filled in: keys sorted, no spaces. A valid spec of its own."""
        return _canonical_json(self.model_dump(mode="json"))


def _canonical_json(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
