"""Exporting again: the model of a run that is already in the registry."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from prunecast.architecture.architecture import Architecture
from prunecast.compare.candidate import Candidate
from prunecast.errors import ExportError, RegistryError
from prunecast.export.deliver import Deliverable, ExportReport
from prunecast.measure.build import build_elastic
from prunecast.measure.identity import check_unchanged, identity_of
from prunecast.measure.recorded import Permissions
from prunecast.measure.setup import Setup, spec_as_measured
from prunecast.measure.speeds import with_recorded_speeds
from prunecast.plugins.host import PluginHost
from prunecast.problem.limits import adds_biases, cut_components, problem_of_biases
from prunecast.progress import Progress
from prunecast.recover.recover import check_recovery
from prunecast.registry import Registry, RunRecord
from prunecast.registry.queries.show import find_architecture
from prunecast.registry.records import reading_result
from prunecast.run.delivery import deliver_run, places_of, recoverer_of, recovery_identity, written_setup
from prunecast.spec.model import ExporterUse, ExportSpec, Spec


def export_again(
    registry: Registry,
    record: RunRecord,
    architecture: str | None,
    folder: str | Path,
    host: PluginHost,
    permissions: Permissions,
    progress: Progress,
    overwrite: bool = False,
    dtype: str | None = None,
    target: str | None = None,
    require_verified: bool = False,
) -> tuple[ExportReport, ...]:
    """Write a model of a finished run to ``folder``.

    Args:
        registry: the registry of the run.
        record: the run.
        architecture: its text or the first digits of its key, or None for the best of the run.
        folder: destination.
        host: host of the plugins of the run's spec.
        permissions: code that the run's spec may execute.
        progress: where progress is shown.
        overwrite: True allows an export of another run, spec or architecture to be replaced, and an edited one.
        dtype: dtype to write, ``measured`` for the dtype of the run; None for the dtype of the spec. If the target has
            an option of this name, it is set to this.
        target: name of the exporter; None for the targets of the spec, huggingface if it has none.
        require_verified: True refuses targets whose engine is not installed.

    Returns:
        A report for each target.

    Raises:
        ChangedError: model, data or code have changed since the run.
        RegistryError: the run's spec names code that is not permitted.
        RecoveryError: the model has to be trained again, and something that needs is missing.
        ExportError: the run has no result, the text is no architecture, or the folder cannot be written.
    """
    # It imports torch, which takes seconds: the caller reports errors that do not need it before.
    from prunecast.models.elastic import check_fits

    if record.result is None:
        raise ExportError(f"run {record.id} ({record.name}) is {record.status}: run its spec to the end first")
    setup = with_recorded_speeds(Setup(spec_as_measured(record, host, permissions), host), registry)
    check_unchanged(registry, record, identity_of(setup) | recovery_identity(setup))
    with reading_result(record):
        dense, best, *recovered = (Candidate.from_json(row) for row in _compared(record.result))
        baselines = [Candidate.from_json(row) for row in record.result["baselines"]]
        _check_numbers(setup, [dense, *baselines, best, *recovered])
    chosen = best.architecture if architecture is None else _find(registry, architecture)
    check_fits(chosen, setup.shape)
    targets, own = _targets(setup.spec, target, dtype)
    written = written_setup(setup, (None if own else dtype) or _dtype(setup.spec))
    for use in targets.values():
        _check_limits(setup, use, chosen)
    places = places_of(setup, targets, folder)
    elastic = cache(lambda: build_elastic(written, progress))

    def pruned() -> Deliverable:
        return Deliverable.of(elastic(), chosen)

    def unpruned() -> Deliverable:
        return Deliverable.of(elastic(), setup.shape.dense)

    is_best = chosen == best.architecture
    recovery = setup.spec.recover if is_best else None
    model: Callable[[], Deliverable] = pruned
    if recovery is not None:
        check_recovery(recovery, setup.device.type)
        model = partial(recoverer_of(setup, recovery, elastic, progress).deliverable, chosen)
    return deliver_run(
        setup,
        written,
        chosen,
        model=model,
        dense=unpruned,
        compared=[dense, *baselines, *([best, *recovered] if is_best else ())],
        places=places,
        recovery=recovery,
        overwrite=overwrite,
        require_verified=require_verified,
    )


def _dtype(spec: Spec) -> str:
    return spec.export.dtype if spec.export else "measured"


def _targets(spec: Spec, target: str | None, dtype: str | None) -> tuple[Mapping[str, ExporterUse], bool]:
    """Targets to write, by label, and whether the dtype is an option of theirs.

    Raises:
        ExportError: there is no such target, or it does not take the dtype.
    """
    if target is None:
        _check_dtype(dtype)
        return spec.targets or {"huggingface": spec.exporter("huggingface")}, False
    try:
        plain = spec.exporter(target)
        own = dtype is not None and "dtype" in type(plain.options).model_fields
        use = spec.exporter(target, {"dtype": dtype}) if own else plain
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        option = "target" if problem["loc"][-1] == "use" else problem["loc"][-1]
        raise ExportError(f"--{option}: {problem['msg']}") from error
    if not own:
        _check_dtype(dtype)
    return {use.label: use}, own


def _check_dtype(dtype: str | None) -> None:
    """Raise ExportError unless weights can be written in a number format."""
    known = get_args(ExportSpec.model_fields["dtype"].annotation)
    if dtype is not None and dtype not in known:
        raise ExportError(f"--dtype: weights are not written in {dtype!r}: choose one of {', '.join(known)}")


def _check_limits(setup: Setup, use: ExporterUse, architecture: Architecture) -> None:
    """Raise ExportError unless a target can express an architecture."""
    limits = use.instance(setup.host).limits(setup.source.config(), setup.family, setup.shape)
    cut = cut_components(setup.shape.dense, [architecture]) if adds_biases(setup.spec) else set()
    if problem := limits.problem(architecture) or problem_of_biases(limits, cut):
        raise ExportError(
            f"{use.label} cannot express this architecture: {problem}; name the target in the spec (export.targets), "
            "so that the search proposes only what it can express, or choose an --architecture"
        )


def _compared(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The dense model, the best architecture, and that after recovery if there was one."""
    recovery = result.get("recovery")
    return [result["dense"], result["best"], *([recovery["after"]] if recovery else [])]


def _check_numbers(setup: Setup, compared: Sequence[Candidate]) -> None:
    """Raise LookupError, TypeError or ValueError unless every metric of the card is a number of each candidate."""
    names = [metric.name for named in setup.verifiers for metric in named.metrics]
    for row in compared:
        if not all(math.isfinite(number) for number in (row.parameters, *(row.metrics[name] for name in names))):
            raise ValueError(f"a number of {row.name} is not finite")


def _find(registry: Registry, text: str) -> Architecture:
    try:
        return find_architecture(registry, text)
    except RegistryError as error:
        raise ExportError(f"the architecture: {error}") from error
