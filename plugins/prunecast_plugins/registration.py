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
    """Rankings by gradients, by activations, by weights, and by nothing."""
    return [
        Entry(
            "taylor",
            "prunecast_plugins.pruners.taylor:Taylor",
            "Taylor expansion of the loss on calibration text, to first or second order",
            "arXiv 2305.11627 (LLM-Pruner), equations 3 to 5",
        ),
        Entry(
            "obs",
            "prunecast_plugins.pruners.obs:OBS",
            "Greedy removal under least-squares compensation, errors weighed by gradients of the loss",
            "Hassibi and Stork, 1993, equation 5; arXiv 1503.05671, section 3",
        ),
        Entry(
            "activation",
            "prunecast_plugins.pruners.activation:Activation",
            "Absolute weights times the norms of what they read in calibration text",
            "arXiv 2306.11695 (Wanda), equation 1",
        ),
        Entry(
            "flap",
            "prunecast_plugins.pruners.flap:FLAP",
            "Squared weights times the variances of what they read in calibration text",
            "arXiv 2312.11983 (FLAP), metric WIFV",
        ),
        Entry(
            "magnitude",
            "prunecast_plugins.pruners.magnitude:Magnitude",
            "Sum of absolute or squared weights; needs no text",
            "arXiv 1608.08710, section 3.1",
        ),
        Entry("random", "prunecast_plugins.pruners.random:Random", "Random order: the control; needs no text"),
    ]


@hookimpl
def prunecast_evaluators() -> Iterable[Entry]:
    """On texts, on questions, and of speed."""
    return [
        Entry(
            "perplexity",
            "prunecast_plugins.evaluators.perplexity:Perplexity",
            "Perplexity of a text in windows of fixed length",
        ),
        Entry(
            "kl",
            "prunecast_plugins.evaluators.kl:KL",
            "Kullback-Leibler divergence from the dense model's predictions on a text",
            "arXiv 1503.02531 (distillation), section 2, at temperature 1",
        ),
        Entry(
            "multiple_choice",
            "prunecast_plugins.evaluators.multiple_choice:MultipleChoice",
            "Accuracy on ARC, PIQA, OpenBookQA, WinoGrande, Social IQa and questions of one's own",
            "prompts of https://github.com/EleutherAI/lm-evaluation-harness 0.4",
        ),
        Entry(
            "mmlu",
            "prunecast_plugins.evaluators.mmlu:MMLU",
            "Accuracy on MMLU after a few solved questions, mean over subjects",
            "arXiv 2009.03300; prompt of https://github.com/hendrycks/test",
        ),
        Entry(
            "latency",
            "prunecast_plugins.evaluators.latency:Latency",
            "Measured speed of prompt and generation, bytes of weights and key-value cache",
        ),
        Entry(
            "lm_eval",
            "prunecast_plugins.evaluators.lm_eval:LMEval",
            "Log-likelihood tasks of the EleutherAI harness; needs prunecast[lm-eval]",
            "https://github.com/EleutherAI/lm-evaluation-harness",
        ),
    ]


@hookimpl
def prunecast_predictors() -> Iterable[Entry]:
    """Gradient-boosted trees, Gaussian processes, and whatever scikit-learn can fit."""
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
        Entry(
            "gp",
            "prunecast_plugins.predictors.gp:GP",
            "Gaussian process on parts, totals and neighbourhoods of what is kept; few pairs go far",
            "Rasmussen and Williams 2006, chapters 2 and 5",
        ),
        Entry(
            "blend",
            "prunecast_plugins.predictors.blend:Blend",
            "Gaussian process and boosted trees in equal parts",
            "arXiv 1603.02754; Rasmussen and Williams 2006",
        ),
        Entry(
            "sklearn",
            "prunecast_plugins.predictors.sklearn:Sklearn",
            "Any scikit-learn regressor by import path, its parameters as options",
            "Pedregosa et al., JMLR 12 (2011)",
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
        Entry(
            "evolution",
            "prunecast_plugins.searchers.evolution:Evolution",
            "Mutations that move what is kept between layers, the best predicted survive",
            "arXiv 2410.14649 (EvoPress), algorithm 1",
        ),
        Entry(
            "optuna",
            "prunecast_plugins.searchers.optuna:Optuna",
            "Any Optuna or OptunaHub sampler by name, its parameters as options",
            "Akiba et al., KDD 2019",
        ),
    ]
