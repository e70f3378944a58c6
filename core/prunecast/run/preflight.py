"""The beginning of a run: whatever could stop it later is looked for before anything is measured."""

from pathlib import Path

from prunecast.export.huggingface import check_target
from prunecast.measure.setup import Setup
from prunecast.predict.warm_start import begin_warm
from prunecast.registry import Registry


def begin(setup: Setup, registry: Registry) -> None:
    """Check a set-up, and let its predictors begin with the pairs of other models that its spec names.

    What a recovery needs of the machine is not looked for: a dry run may well be made on another one.

    Raises:
        PrunecastError: its parts do not go together, a model that it begins with has no such pairs, or something else
            is where its export goes.
    """
    setup.check()
    begin_warm(setup, registry)
    if setup.spec.export is not None:
        check_target(Path(setup.spec.export.path))
