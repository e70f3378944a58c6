"""Exporting again: the model of a run that is already in the registry."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from prunecast.architecture.architecture import Architecture
from prunecast.compare.candidate import Candidate
from prunecast.errors import ExportError
from prunecast.export.deliver import Deliverable
from prunecast.export.huggingface import ExportReport
from prunecast.measure.build import build_elastic
from prunecast.measure.identity import check_unchanged, identity_of
from prunecast.measure.recorded import Permissions
from prunecast.measure.setup import Setup, spec_as_measured
from prunecast.models.elastic import check_fits
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.recover.recover import check_recovery
from prunecast.registry import Registry, RunRecord
from prunecast.registry.records import reading_result
from prunecast.run.delivery import deliver_run, recoverer_of, recovery_identity, written_setup


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
) -> ExportReport:
    """Write a model of a finished run to ``folder``.

    Args:
        registry: the registry of the run.
        record: the run.
        architecture: its text, or None for the best of the run.
        folder: destination.
        host: host of the plugins of the run's spec.
        permissions: code that the run's spec may execute.
        progress: where progress is shown.
        overwrite: True allows an export of another run, spec or architecture to be replaced, and an edited one.
        dtype: dtype to write, ``measured`` for that of the run; None for what the spec says.

    Raises:
        ChangedError: model, data or code are not what the run was made from.
        RegistryError: the run's spec names code that is not permitted.
        RecoveryError: the model has to be trained again, and what that needs is missing.
        ExportError: the run has no result, the text is no architecture, or the folder cannot be written.
    """
    if record.result is None:
        raise ExportError(f"run {record.id} ({record.name}) is {record.status}: run its spec to the end first")
    setup = Setup(spec_as_measured(record, host, permissions), host)
    check_unchanged(registry, record, identity_of(setup) | recovery_identity(setup))
    with reading_result(record):
        dense, best, *recovered = (Candidate.from_json(row) for row in _compared(record.result))
        baselines = [Candidate.from_json(row) for row in record.result["baselines"]]
        _check_numbers(setup, [dense, *baselines, best, *recovered])
    chosen = best.architecture if architecture is None else _parse(architecture)
    check_fits(chosen, setup.shape)
    written = written_setup(setup, dtype or (setup.spec.export.dtype if setup.spec.export else "measured"))
    elastic = cache(lambda: build_elastic(written, progress))

    def pruned() -> Deliverable:
        return Deliverable.of(elastic(), chosen)

    if chosen != best.architecture:
        return deliver_run(setup, written, chosen, pruned, [dense, *baselines], folder, overwrite=overwrite)
    compared, options = [dense, *baselines, best, *recovered], setup.spec.recover
    if options is None:
        return deliver_run(setup, written, chosen, pruned, compared, folder, overwrite=overwrite)
    check_recovery(options, setup.device.type)
    recoverer = recoverer_of(setup, options, elastic, progress)
    return deliver_run(
        setup, written, chosen, lambda: recoverer.deliverable(chosen), compared, folder, options, overwrite
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


def _parse(text: str) -> Architecture:
    try:
        return Architecture.parse(text)
    except ValueError as error:
        raise ExportError(f"the architecture: {error}") from error
