"""The preflight of a run or of its plan: what could stop the run on any machine is checked before it measures."""

from pathlib import Path

from prunecast.cache import check_temporary_files
from prunecast.export.huggingface import check_target
from prunecast.measure.setup import Setup
from prunecast.predict.warm_start import prior_of
from prunecast.registry import Registry


def preflight(setup: Setup, registry: Registry) -> None:
    """Check a set-up.

    The requirements of a recovery are not checked: a dry run may well be made on another machine.

    Raises:
        PrunecastError: parts of the spec contradict one another, a model of the warm start has no such pairs, the
            export would overwrite something else, code of the model's own computes something else, or there is no
            folder for temporary files.
    """
    check_temporary_files()
    setup.check()
    spec = setup.spec
    prior_of(spec, setup.problem, registry)  # raises if a model of the warm start has no such pairs
    if spec.export is not None:
        check_target(Path(spec.export.path))
    setup.source.check_own_code(setup.device)
