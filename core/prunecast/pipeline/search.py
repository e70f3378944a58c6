"""The searching stage: what the predictor thinks best among what has not been measured."""

from collections.abc import Collection, Mapping

from prunecast.architecture import Architecture
from prunecast.interfaces import SearchProblem
from prunecast.pipeline.fit import Fitted
from prunecast.pipeline.progress import Progress
from prunecast.pipeline.setup import Setup

SPARE = 4
"""Proposals asked for each one wanted, because some have been measured already."""


def search(
    setup: Setup,
    fitted: Fitted,
    measured: Mapping[Architecture, Mapping[str, float]],
    exclude: Collection[Architecture],
    round_number: int,
    progress: Progress,
) -> list[Architecture]:
    """Up to ``per_round`` architectures that meet the budget and are not in ``exclude``, best predicted first."""
    wanted = setup.spec.per_round
    with progress.bar(f"search, round {round_number}", setup.searcher.evaluations, "arch") as advance:
        problem = SearchProblem(
            space=setup.space,
            budget=setup.budget,
            score=fitted.score,
            rng=setup.rng("search", round_number),
            known=ranked(setup, measured),
            progress=advance,
        )
        proposals = setup.searcher.search(problem, wanted * SPARE + len(exclude))
    return [proposal for proposal in proposals if proposal not in exclude][:wanted]


def ranked(setup: Setup, measured: Mapping[Architecture, Mapping[str, float]]) -> list[Architecture]:
    """Measured architectures that meet the budget, best objective first."""
    architectures = [architecture for architecture in measured if setup.budget.met_by(architecture)]
    if not architectures:
        return []
    scores = setup.objective.score(setup.objective.targets([measured[a] for a in architectures]))
    order = sorted(range(len(architectures)), key=lambda i: (scores[i], architectures[i].key))
    return [architectures[i] for i in order]
