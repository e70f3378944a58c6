"""Validation of a spec against the config of its model, without reading weights."""

from prunecast.errors import ModelError
from prunecast.measure.setup import place_of_model
from prunecast.models.described import described
from prunecast.models.families.sizes import shape_of
from prunecast.models.source import resolve_source
from prunecast.plugins.host import PluginHost
from prunecast.problem.problem import Problem
from prunecast.spec.model import Spec


def check_against_config(spec: Spec, host: PluginHost) -> str | None:
    """Check that the space and the budget of a spec fit its model.

    Args:
        spec: the spec.
        host: host of its plugins.

    Returns:
        One sentence if the model is not on this machine, so that nothing is compared; else None. A ``.gguf`` file is
        not compared either, as its header takes seconds to read: a dry run does it.

    Raises:
        ModelError: the family of the model is not described, or the space does not fit its sizes.
        BudgetError: the space has nothing that meets the budget.
    """
    place = place_of_model(spec.paths, spec.model.source)
    try:
        source = resolve_source(place, spec.model.revision, spec.model.trust_remote_code)
    except ModelError:
        return f"not compared with the config of {spec.model.source}, which is not on this machine"
    if source.kind == "gguf":
        source.check_architecture()
        return None
    config, family = described(source, spec.families)
    Problem.for_model(spec, host, config, family, shape_of(config, family))
    return None
