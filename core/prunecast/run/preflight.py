"""The preflight of a run or of its plan: what could stop the run on any machine is checked before it measures."""

import math

from prunecast.cache import check_temporary_files
from prunecast.export.rehearsal import rehearse
from prunecast.measure.setup import Setup
from prunecast.predict.warm_start import prior_of
from prunecast.registry import Registry
from prunecast.run.delivery import export_folder, origin_of


def preflight(setup: Setup, registry: Registry, overwrite: bool = False) -> None:
    """Check a set-up.

    The requirements of a recovery are not checked: a dry run may well be made on another machine.

    Args:
        setup: the set-up.
        registry: where the pairs of other models are.
        overwrite: True allows the export to replace one of another run, spec or architecture, and an edited one.

    Raises:
        PrunecastError: parts of the spec contradict one another, a model of the warm start has no such pairs, the
            export would overwrite something else, cannot be written, has no room or would not load as what is measured,
            code of the model's own computes something else, or there is no folder for temporary files.
    """
    check_temporary_files()
    setup.check()
    spec = setup.spec
    prior_of(spec, setup.problem, registry)  # raises if a model of the warm start has no such pairs
    if spec.export is not None:
        _check_export(setup, spec.export.path, overwrite)
    setup.source.check_own_code(setup.device)


def _check_export(setup: Setup, path: str, overwrite: bool) -> None:
    folder, origin, problem = export_folder(setup, path), origin_of(setup), setup.problem
    folder.check(origin, overwrite)
    most = min(problem.budget.limits.get("parameters", math.inf), problem.dense_count("parameters"))
    folder.check_room(origin, int(most) * setup.dtype.itemsize)
    rehearse(setup.source.config())
