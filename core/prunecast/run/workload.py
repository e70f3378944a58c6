"""How much each stage of a run measures, by its spec and its pairs, before any of it is run."""

from dataclasses import dataclass

from prunecast.compare.search_baselines import CONTENDERS, Contender, evaluations_of
from prunecast.compare.uniform import UniformCut
from prunecast.spec.model import Spec


@dataclass(frozen=True)
class Amounts:
    """Architectures that the stages after the pairs measure, and those they look around.

    Attributes:
        expansions: architectures that are looked around, one after another.
        verified: those the verification compares.
        baselines: even cuts, and the finds of ``searches``.
        searches: baselines that search by themselves.
        contending: what each of them measures.
    """

    expansions: int
    verified: int
    baselines: int
    searches: tuple[Contender, ...]
    contending: int

    @classmethod
    def of(cls, spec: Spec, pairs: int) -> "Amounts":
        """Amounts of a spec that learns from ``pairs`` pairs before the first round."""
        totals = spec.per_round if spec.choose.rule == "spread" else 1
        cuts = sum(UniformCut.named(name) is not None for name in spec.baselines)
        searches = tuple(name for name in CONTENDERS if name in spec.baselines)
        expansions = spec.rounds * spec.neighbours
        return cls(
            expansions=expansions,
            verified=spec.verify.top + totals - 1,
            baselines=cuts * totals + len(searches),
            searches=searches,
            contending=evaluations_of(spec, pairs + spec.rounds * spec.per_round, expansions),
        )
