"""The preflight of a run: everything that could stop it later is checked before anything is measured."""

from prunecast.export.huggingface import check_target
from prunecast.measure.setup import Setup
from prunecast.predict.transfer import Prior
from prunecast.predict.warm_start import prior_of
from prunecast.registry import Registry


def preflight(setup: Setup, registry: Registry) -> Prior | None:
    """Check a set-up, and find the pairs of other models that its spec begins with.

    The requirements of a recovery are not checked: a dry run may well be made on another machine.

    Returns:
        The pairs of other models, or None without a warm start.

    Raises:
        PrunecastError: parts of the spec contradict one another, a model of the warm start has no such pairs, or the
            export would overwrite something else.
    """
    setup.check()
    spec = setup.spec
    models = spec.warm_start.models if spec.warm_start else ()
    prior = prior_of(setup.problem, registry, models, spec.pruner.use) if models else None
    if spec.export_path is not None:
        check_target(spec.export_path)
    return prior
