"""The preflight of a run or of its plan: what could stop the run on any machine is checked before it measures."""

import math

from prunecast.cache import check_temporary_files
from prunecast.measure.identity import identity_of
from prunecast.measure.placement import check_placement
from prunecast.measure.setup import Setup
from prunecast.predict.warm_start import prior_of
from prunecast.registry import Registry
from prunecast.run.delivery import Places, origin_of, places_of, recovery_identity, written_setup
from prunecast.run.texts import proof_of


def preflight(setup: Setup, registry: Registry, overwrite: bool = False) -> dict[str, str]:
    """Check a set-up; whatever can be known before anything is measured is found here.

    Devices and packages that a recovery needs are not checked: a dry run may well be made on another machine.

    Args:
        setup: the set-up.
        registry: where the pairs of other models are.
        overwrite: True allows the export to replace one of another run, spec or architecture, and an edited one.

    Returns:
        The identity of the run.

    Raises:
        PrunecastError: something that the spec names is missing, cannot be read or is too small; its parts contradict
            one another; the export would overwrite something else, cannot be written, has no room or would not load as
            what is measured; code of the model's own computes something else; a description of its family that is
            not bundled is not proven; or there is no folder for temporary files.
    """
    check_temporary_files()
    setup.check()
    check_placement(setup)
    proof_of(setup)  # raises if the description of the family is wrong
    spec = setup.spec
    prior_of(spec, setup.problem, registry)  # raises if a model of the warm start has no such pairs
    if spec.export is not None and spec.export_path is not None:
        _check_export(setup, places_of(setup, spec.targets, spec.export_path), spec.export.dtype, overwrite)
    setup.source.check_own_code(setup.device)
    return identity_of(setup) | recovery_identity(setup)


def _check_export(setup: Setup, places: Places, dtype: str, overwrite: bool) -> None:
    # It imports torch, which takes seconds: errors of a spec that need none are told before.
    from prunecast.export.proof.rehearsal import rehearse

    problem, written = setup.problem, written_setup(setup, dtype)
    most = min(problem.budget.limits.get("parameters", math.inf), problem.dense_count("parameters"))
    for label, (exporter, folder) in places.items():
        origin = origin_of(setup, label)
        folder.check(origin, overwrite)
        folder.check_room(origin, int(most) * written.dtype.itemsize)
        exporter.check(setup.source)
    rehearse(setup.source.config(), setup.family)
