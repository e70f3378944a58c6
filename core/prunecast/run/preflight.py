"""The preflight of a run: everything that could stop it later is checked before anything is measured."""

import math

from prunecast.measure.setup import Setup
from prunecast.predict.transfer import Prior
from prunecast.predict.warm_start import prior_of
from prunecast.registry import Registry
from prunecast.run.delivery import export_folder, origin_of


def preflight(setup: Setup, registry: Registry, overwrite: bool = False) -> Prior | None:
    """Check a set-up, and find the pairs of other models that its spec begins with.

    The requirements of a recovery are not checked: a dry run may well be made on another machine.

    Args:
        setup: the set-up.
        registry: where the pairs of other models are.
        overwrite: True allows the export to replace one of another run, spec or architecture, and an edited one.

    Returns:
        The pairs of other models, or None without a warm start.

    Raises:
        PrunecastError: parts of the spec contradict one another, a model of the warm start has no such pairs, or the
            export would overwrite something else, cannot be written or has no room.
    """
    setup.check()
    spec = setup.spec
    models = spec.warm_start.models if spec.warm_start else ()
    prior = prior_of(setup.problem, registry, models, spec.pruner.use) if models else None
    if spec.export is not None:
        _check_export(setup, spec.export.path, overwrite)
    return prior


def _check_export(setup: Setup, path: str, overwrite: bool) -> None:
    folder, origin, problem = export_folder(setup, path), origin_of(setup), setup.problem
    folder.check(origin, overwrite)
    most = min(problem.budget.limits.get("parameters", math.inf), problem.dense_count("parameters"))
    folder.check_room(origin, int(most) * setup.dtype.itemsize)
