"""Hands the bundled plugins to the host, through the same hooks as any third party."""

from collections.abc import Iterable

from prunecast.hookspecs import Entry, hookimpl


@hookimpl
def prunecast_search_spaces() -> Iterable[Entry]:
    """The layerwise space."""
    return [
        Entry(
            "layerwise",
            "prunecast_plugins.spaces.layerwise:Layerwise",
            "KV groups, query heads per group and MLP width of every layer",
            "arXiv 2309.09507, section 3.1",
        )
    ]


@hookimpl
def prunecast_pruners() -> Iterable[Entry]:
    """Gradient- and magnitude-based rankings."""
    return [
        Entry(
            "taylor",
            "prunecast_plugins.pruners.taylor:Taylor",
            "First-order Taylor expansion of the loss on calibration text",
            "arXiv 2305.11627 (LLM-Pruner), equation 5",
        ),
        Entry(
            "magnitude",
            "prunecast_plugins.pruners.magnitude:Magnitude",
            "Sum of absolute or squared weights; needs no text",
            "arXiv 1608.08710, section 3.1",
        ),
    ]


@hookimpl
def prunecast_evaluators() -> Iterable[Entry]:
    """Perplexity."""
    return [
        Entry(
            "perplexity",
            "prunecast_plugins.evaluators.perplexity:Perplexity",
            "Perplexity of a text in windows of fixed length",
        )
    ]


@hookimpl
def prunecast_predictors() -> Iterable[Entry]:
    """Gradient-boosted trees."""
    return [
        Entry(
            "gbdt",
            "prunecast_plugins.predictors.gbdt:GBDT",
            "Gradient-boosted decision trees of scikit-learn, bagged for a standard deviation",
            "arXiv 2309.09507, section 3.2",
        ),
        Entry(
            "xgboost",
            "prunecast_plugins.predictors.xgboost:XGBoost",
            "Gradient-boosted decision trees of XGBoost, bagged for a standard deviation",
            "arXiv 1603.02754",
        ),
    ]


@hookimpl
def prunecast_searchers() -> Iterable[Entry]:
    """Search over the prediction."""
    return [
        Entry(
            "tpe",
            "prunecast_plugins.searchers.tpe:TPE",
            "Tree-structured Parzen estimator of Optuna over the predictor",
            "Bergstra et al., NIPS 2011, section 4",
        ),
        Entry(
            "random",
            "prunecast_plugins.searchers.random:Random",
            "Many random architectures at the budget, the best predicted of them",
            "arXiv 2309.09507, section 3.4",
        ),
    ]
