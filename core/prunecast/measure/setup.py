"""The set-up of a run: model source, plugins, data and settings of a spec, instantiated; no weight is loaded yet."""

import json
import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prunecast.architecture.choices import Choice
from prunecast.architecture.shape import ModelShape
from prunecast.architecture.speed import SpeedTable
from prunecast.data import (
    check_disjoint,
    check_embedded,
    content_hash,
    overlap,
    read_documents,
    read_rows,
    reading,
    sample_windows,
    split_label,
)
from prunecast.data.dataset import Row
from prunecast.errors import DataError, EvaluationError, RegistryError
from prunecast.measure.device import choose_device, choose_dtype
from prunecast.measure.recorded import NOTHING_PERMITTED, Permissions, permitted_content
from prunecast.models.described import described
from prunecast.models.families.family import EXPORTED, Family
from prunecast.models.families.sizes import shape_of
from prunecast.models.pruned.lineage import Lineage, lineage_of
from prunecast.models.source import ALIASES, ModelSource, resolve_source
from prunecast.plugins.bos import begin_with, bos_tokens, with_settled_bos
from prunecast.plugins.families import description_hash
from prunecast.plugins.guard import check_metrics
from prunecast.plugins.host import PluginHost, Registered
from prunecast.plugins.interfaces import CalibrationOptions, Evaluator, Metric, Pruner, Searcher
from prunecast.plugins.isolation import isolated
from prunecast.plugins.local import Origin
from prunecast.problem.objective import Objective
from prunecast.problem.problem import Problem
from prunecast.registry import ModelRecord, PluginRecord, Setting, content_key
from prunecast.registry.records import RunRecord
from prunecast.spec.model import PluginUse, Spec, SpecContext, SpecSource
from prunecast.spec.paths import Paths
from prunecast.spec.recovery import DistillRecovery, Recovery
from prunecast.yaml_files.document import dotted

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class NamedEvaluator:
    """An evaluator that is ready to measure, with the setting of its numbers in the registry.

    Attributes:
        evaluator: the evaluator.
        setting: key and description of the conditions of its numbers.
        compensated: True if the pruner's compensation, if it has any, is applied while measuring.
    """

    evaluator: Evaluator[Any]
    setting: Setting
    compensated: bool = True

    @property
    def owner(self) -> str:
        """Its name and distribution, for messages."""
        return f"evaluator {self.setting.evaluator.name!r} of {self.setting.evaluator.distribution}"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics that it measures."""
        return self.evaluator.metrics

    @property
    def text(self) -> tuple[str, str] | None:
        """Data set and split that it measures on, if its options name both."""
        options = self.evaluator.options
        named = hasattr(options, "dataset") and hasattr(options, "split")
        return (options.dataset, options.split) if named else None


class Setup:
    """A spec with its model, its plugins and its data.

    Args:
        spec: the validated spec.
        host: host of its plugins.

    Attributes:
        spec, host: the arguments.
        speeds: measured times of the components of the model; None leaves limits of speeds out of the budget.
        source, family, shape: the dense model: files, description and sizes.
        lineage: the models that the dense model was made from by pruning, the original first.
        description: hash of the description, from :func:`prunecast.plugins.families.description_hash`.
        notes: lines for the user on how its files are read.
        device, dtype: place and number format of the measurements.
        pruner, searcher: plugins of the spec.

    Raises:
        PrunecastError: something the spec names does not exist or does not fit together. Nothing has been measured yet.
    """

    def __init__(self, spec: Spec, host: PluginHost) -> None:
        self.spec, self.host = spec, host
        self.speeds: SpeedTable | None = None
        self.source: ModelSource = resolve_source(
            place_of_model(spec.paths, spec.model.source),
            spec.model.revision,
            trust_remote_code=spec.model.trust_remote_code,
        )
        config, family = described(self.source, spec.families)
        self.family: Family = family
        self.lineage: Lineage = lineage_of(config.to_dict())
        self.shape: ModelShape = shape_of(config, family)
        self.description = description_hash(host, family, config)
        self.notes: list[str] = self.source.check()
        if (kind := config.model_type.removeprefix(EXPORTED)) != family.name:
            self.notes.append(
                f"model {self.source.name}: its type is {kind}, and model.family describes its layers as those of "
                f"{family.name}"
            )
        self.device = choose_device(spec.model.device)
        self.dtype = choose_dtype(spec.model.dtype, self.device)
        if (stored := self.source.stored_dtype()) not in (None, self.dtype):
            self.notes.append(
                f"model {self.source.name}: stored in {dtype_name(stored)}, measured and exported in "
                f"{dtype_name(self.dtype)}; model.dtype and export.dtype choose another"
            )
        self.pruner: Pruner[Any] = spec.pruner.instance(host)
        self.searcher: Searcher[Any] = spec.searcher.instance(host)
        self._problem = Problem.for_model(spec, host, config, family, self.shape)

    def with_speeds(self, speeds: SpeedTable) -> "Setup":
        """The same set-up with measured times of the components, by which its budget limits speeds.

        Raises:
            BudgetError: no architecture of the space meets the budget.
        """
        timed = copy(self)
        timed.speeds = speeds
        problem = Problem.of(self.spec, self.host, replace(self.shape, speeds=speeds))
        timed._problem = problem.within(self._problem.limits)
        vars(timed).pop("problem", None)  # a cached one was made without the speeds
        return timed

    def in_dtype(self, dtype: str) -> "Setup":
        """The same set-up with weights in another dtype, e.g. ``float32``."""
        other = Setup(self.spec.settled(dtype=dtype), self.host)
        return other if self.speeds is None else other.with_speeds(self.speeds)

    @property
    def choices(self) -> Sequence[Choice]:
        """The choices of the search, as far as the targets of the export can express them."""
        return self._problem.space.choices

    @cached_property
    def problem(self) -> Problem:
        """The search problem. Its objective names metrics, so the evaluators' data are read for it."""
        return self._problem.minimising(Objective.of(metrics_of(self.evaluators), self.spec.objective))

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's tokenizer."""
        return self.source.tokenizer()

    @cached_property
    def calibration(self) -> "torch.Tensor | None":
        """Calibration tokens of shape (samples, tokens), one more with ``bos`` in front; None if there is no text.

        Raises:
            DataError: a text is missing or too short, or only some have the beginning-of-sequence token in front.
        """
        import torch

        texts = [self.sample(wanted, "pruner.calibration") for wanted in self.pruner.calibration]
        if len({text.shape[1] for text in texts}) > 1:
            raise DataError(
                "pruner.calibration: only some texts begin with a beginning-of-sequence token; give all the same bos"
            )
        return torch.cat(texts) if texts else None

    @cached_property
    def compensation(self) -> "list[torch.Tensor]":
        """Tokens compensation is fitted on, each of shape (samples, tokens); empty without compensation."""
        options = self.pruner.options.compensate
        wanted = () if options.method == "none" else options.calibration
        return [self.sample(each, "pruner.compensate.calibration") for each in wanted]

    @property
    def compensation_hash(self) -> str:
        """Hash of the tokens compensation is fitted on."""
        return content_key([content_hash(tokens) for tokens in self.compensation])

    def sample(self, wanted: CalibrationOptions | DistillRecovery, section: str) -> "torch.Tensor":
        """Random windows of a text, int64 of shape (samples, tokens), one token longer with ``bos`` in front.

        Args:
            wanted: the text, and how much of it.
            section: section of the spec that asks for it, for messages; a default can ask for text, too.

        Raises:
            DataError: there is no such text, or not enough; names it and the section.
        """
        self._check_context(wanted, section)
        with reading(self.spec.reading):
            documents = read_documents(wanted.dataset, wanted.split, self.data_dir)
            split = split_label(wanted.dataset, wanted.split)
        try:
            windows = sample_windows(self.tokenizer, documents, wanted.samples, wanted.tokens, wanted.seed)
            check_embedded(self.tokenizer, windows.flatten().tolist(), self.shape.vocabulary)
        except DataError as error:
            raise DataError(f"{section}: data set {wanted.dataset}, {split}: {error}") from error
        return begin_with(self.bos(wanted, section), windows)

    def bos(self, wanted: CalibrationOptions | Recovery, section: str) -> list[int]:
        """Tokens in front of every sequence of a text: the beginning-of-sequence token, or none.

        Raises:
            DataError: the token is wanted and the tokenizer has none; names the section.
        """
        try:
            return bos_tokens(wanted.bos, self.tokenizer, self.shape)
        except DataError as error:
            raise DataError(f"{section}: {error}") from error

    def rows(self, wanted: Recovery) -> list[Row]:
        """Rows of the data set of a recovery. Raises DataError if there is no such data set."""
        with reading(self.spec.reading):
            return read_rows(wanted.dataset, wanted.split, self.data_dir)

    def _check_context(self, wanted: CalibrationOptions | DistillRecovery, section: str) -> None:
        bos = self.bos(wanted, section)
        longest = self.shape.context - len(bos)
        if wanted.tokens > longest:
            raise DataError(
                f"{section}: data set {wanted.dataset}, split {wanted.split}: tokens {wanted.tokens} "
                f"{'and a beginning-of-sequence token are' if bos else 'is'} longer than the model's context, set it "
                f"to {longest} or less"
            )

    @property
    def data_dir(self) -> Path | None:
        """Folder of data sets that takes precedence over the Hub, if the spec names one."""
        return self.spec.data_path

    @cached_property
    def model_record(self) -> ModelRecord:
        """Identity of the model in the registry."""
        return ModelRecord(
            self.source.fingerprint(), self.spec.model.source, self.shape, self.source.revision, self.lineage
        )

    @cached_property
    def pruner_record(self) -> PluginRecord:
        """Identity of the pruner: name, version, options and all calibration tokens, those of compensation included."""
        ranking = self.ranking_record
        if not self.compensation:
            return ranking
        data_hash = content_key([ranking.data_hash, self.compensation_hash])
        return self._record(self.spec.pruner, self.pruner.version, data_hash)

    @cached_property
    def ranking_record(self) -> PluginRecord:
        """Identity of the pruner's ranking: everything but the compensation."""
        data_hash = None if self.calibration is None else content_hash(self.calibration)
        record = self._record(self.spec.pruner, self.pruner.version, data_hash)
        return replace(record, options={k: v for k, v in record.options.items() if k != "compensate"})

    @cached_property
    def evaluators(self) -> list[NamedEvaluator]:
        """Evaluators of the search."""
        return [self._prepare(use) for use in self.spec.evaluators]

    @cached_property
    def verifiers(self) -> list[NamedEvaluator]:
        """Evaluators of the verification: all of the search, then those that only ``verify`` names."""
        own = [self._prepare(use) for use in self.spec.verify.evaluators]
        known = {named.setting.key for named in self.evaluators}
        return self.evaluators + [named for named in own if named.setting.key not in known]

    @cached_property
    def uncompensated_verifiers(self) -> list[NamedEvaluator]:
        """The verifiers without the pruner's compensation, with the setting that a run without compensation has."""
        return [
            replace(named, setting=replace(named.setting, pruner=self.ranking_record), compensated=False)
            for named in self.verifiers
        ]

    def check(self) -> None:
        """Find contradictions of a spec before anything is measured.

        Raises:
            EvaluationError: the objective names a metric that no evaluator of the search measures, two evaluators
                measure one metric, or neighbours are to be estimated from one that has no losses.
            DataError: the pruner is calibrated, or the best architecture recovered, on text that is evaluated; the
                search measures text of the verification under another split; or windows to recover on are longer than
                the model's context, or should begin with a token that the tokenizer does not have.
        """
        names = [metric.name for metric in metrics_of(self.verifiers)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise EvaluationError(
                f"two evaluators measure {twice[0]}: leave one of them out, or give them different data sets or splits"
            )
        _ = self.problem  # refuses an objective with a metric that no evaluator of the search measures
        for named in self.evaluators if self.spec.neighbours else ():
            if not (named.evaluator.differentiable and len(named.metrics) == 1):
                raise EvaluationError(
                    f"neighbours: {named.owner} has no losses to estimate them from; leave neighbours out, or search "
                    "by evaluators that have, such as kl and perplexity"
                )
        if self.spec.recover is not None:
            self.bos(self.spec.recover, "recover")
        if isinstance(self.spec.recover, DistillRecovery):
            self._check_context(self.spec.recover, "recover")
        with reading(self.spec.reading):
            self._check_texts()

    def _check_texts(self) -> None:
        """Raise DataError if a text is used for calibration and evaluation, or by the search under another split."""
        compensate = self.pruner.options.compensate
        compensated = compensate.calibration if compensate.method != "none" else ()
        evaluated = [text for named in self.verifiers if (text := named.text)]
        for wanted in filter(None, [*self.pruner.calibration, self.spec.recover, *compensated]):
            check_disjoint((wanted.dataset, wanted.split), evaluated)
        searched = [text for named in self.evaluators if (text := named.text)]
        for name, split in evaluated[len(searched) :]:
            for other, part in searched:
                if split != part and overlap((name, split), (other, part)):
                    raise DataError(
                        f"verify: data set {name}, split {split}: part of what the search measures, {other}, split "
                        f"{part}; search by another split or data set"
                    )

    def _prepare(self, use: PluginUse) -> NamedEvaluator:
        evaluator: Evaluator[Any] = use.instance(self.host)
        owner = str(self._find(use))
        with reading(self.spec.reading), isolated(owner, "prepare"):
            evaluator.prepare(self.tokenizer, self.shape, self.data_dir)
        with isolated(owner, "metrics"):
            check_metrics(owner, evaluator.metrics)
        with isolated(owner, "data_hash"):
            data_hash = evaluator.data_hash
        record = self._record(use, type(evaluator).version, data_hash)
        dtype = dtype_name(self.dtype)
        return NamedEvaluator(evaluator, Setting(self.model_record, self.pruner_record, record, dtype))

    def origin(self, use: PluginUse) -> Origin:
        """Origin of a plugin of the spec."""
        return self._find(use).origin

    def _record(self, use: PluginUse, version: int, data_hash: str | None) -> PluginRecord:
        origin = self.origin(use)
        code_hash = origin.code_hash
        if use is self.spec.pruner and self.description is not None:
            code_hash = content_key([code_hash, self.description])
        options = with_settled_bos(use.options, self.family.bos).material_options()
        return PluginRecord(use.use, version, options, data_hash, str(origin), code_hash)

    def _find(self, use: PluginUse) -> Registered:
        return self.host.find(use.kind, use.use)


def dtype_name(dtype: "torch.dtype | None") -> str:
    """Name of a number format as specs and the registry have it, e.g. ``float32``."""
    return str(dtype).removeprefix("torch.")


def metrics_of(evaluators: Sequence[NamedEvaluator]) -> list[Metric]:
    """All metrics of several evaluators, in order."""
    return [metric for named in evaluators for metric in named.metrics]


def place_of_model(paths: Paths, source: str) -> str:
    """Source of a spec's model, as a path from the current folder if it is a file or folder."""
    found = paths.find(source)
    return str(found) if source not in ALIASES and os.path.exists(found) else source


def spec_as_measured(
    record: RunRecord, host: PluginHost, permissions: Permissions = NOTHING_PERMITTED, dtype: str | None = None
) -> Spec:
    """The spec of a run with the dtype that it was measured in: ``auto`` may be another one on this machine.

    Args:
        record: the run.
        host: host of the plugins of its spec.
        permissions: code that the spec may execute.
        dtype: the dtype; by default, that of the last time it finished.

    Raises:
        RegistryError: as for :func:`spec_of`.
    """
    measured = (record.result or {}).get("model", {}).get("dtype")
    return spec_of(record, host, permissions).settled(dtype=dtype or measured)


def spec_of(record: RunRecord, host: PluginHost, permissions: Permissions = NOTHING_PERMITTED) -> Spec:
    """The spec of a run that is in the registry; it may execute only code that the user has named.

    Raises:
        RegistryError: it names code that is not permitted, or it is not valid here, e.g. a plugin is missing.
    """
    content = json.dumps(permitted_content(record, host, permissions))
    try:
        return Spec.model_validate_json(content, context=SpecContext(host, SpecSource(text=record.spec_text)))
    except ValidationError as error:
        problems = "; ".join(f"{dotted(each['loc'])}: {each['msg']}" for each in error.errors(include_url=False))
        raise RegistryError(
            f"run {record.id} ({record.name}): its recorded spec is not valid here: {problems}; run its spec file anew"
        ) from error
