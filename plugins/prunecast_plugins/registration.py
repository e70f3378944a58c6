"""Registration of the bundled plugins, through the same hooks as third-party plugins."""

from collections.abc import Iterable

from prunecast.plugins import Entry, Trial, hookimpl

_TIMED = (
    "evaluating_twice_gives_the_same",
    "what_was_measured_before_does_not_matter",
    "another_process_measures_the_same",
)

_FAMILIES = {
    "llama": "Llama 1 to 3, and models of its architecture such as SmolLM2",
    "mistral": "Mistral 7B",
    "qwen2": "Qwen 1.5 to 2.5",
    "qwen3": "Qwen 3, dense",
    "smollm3": "SmolLM3",
    "gemma": "Gemma 1",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3, text",
    "phi3": "Phi-3 and Phi-4-mini",
    "gpt2": "GPT-2",
    "opt": "OPT",
    "ministral": "Ministral 8B",
    "ministral3": "Ministral 3, text",
    "seed_oss": "Seed-OSS",
    "ernie4_5": "ERNIE 4.5, dense",
    "helium": "Helium",
    "granite": "Granite 3 and 4, dense",
    "olmo": "OLMo 1",
    "olmo2": "OLMo 2",
    "olmo3": "OLMo 3",
    "exaone4": "EXAONE 4",
    "glm4": "GLM-4",
    "hunyuan_v1_dense": "Hunyuan, dense",
    "arcee": "Arcee AFM",
    "nemotron": "Nemotron and Minitron",
    "apertus": "Apertus",
    "starcoder2": "StarCoder 2",
    "cohere": "Command R",
    "cohere2": "Command R7B and Command A",
    "stablelm": "StableLM",
    "phi": "Phi-1 to Phi-2",
    "gpt_neo": "GPT-Neo",
    "gptj": "GPT-J",
    "gpt_neox": "GPT-NeoX and Pythia",
    "bloom": "BLOOM",
    "mpt": "MPT",
    "falcon": "Falcon 1 and 2",
}

_TRIALS = {
    "ministral": {"head_dim": 128},
    "hunyuan_v1_dense": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
}
"""Attributes that the config of a family does not have by default, and transformers makes no model without."""


@hookimpl
def prunecast_families() -> Iterable[Entry]:
    """Descriptions of families, named by model type."""
    return [
        Entry(
            name,
            f"prunecast_plugins:families/{name}.yaml",
            summary,
            trial=Trial(_TRIALS.get(name, {})),
        )
        for name, summary in _FAMILIES.items()
    ]


@hookimpl
def prunecast_search_spaces() -> Iterable[Entry]:
    """Sizes of every layer, the same sizes in all layers, and whole layers."""
    return [
        Entry(
            "layerwise",
            "prunecast_plugins.spaces.layerwise:Layerwise",
            "KV groups, query heads per group and MLP width of every layer",
            "arXiv 2309.09507, section 3.1",
        ),
        Entry(
            "uniform",
            "prunecast_plugins.spaces.uniform:Uniform",
            "the same sizes in all layers and, if wanted, whole layers",
            trial=Trial({"drop": {}}),
        ),
        Entry(
            "depth",
            "prunecast_plugins.spaces.depth:Depth",
            "whole layers, one by one or in blocks",
            "arXiv 2402.02834",
        ),
    ]


@hookimpl
def prunecast_pruners() -> Iterable[Entry]:
    """Pruners that rank by gradients, activations or weights, and a random control."""
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
            "Greedy removal under least-squares compensation, errors weighted by gradients of the loss",
            "Hassibi and Stork, 1993, equation 5; arXiv 1503.05671, section 3",
        ),
        Entry(
            "activation",
            "prunecast_plugins.pruners.activation:Activation",
            "Absolute weights times the norms of their inputs on calibration text",
            "arXiv 2306.11695 (Wanda), equation 1",
        ),
        Entry(
            "flap",
            "prunecast_plugins.pruners.flap:FLAP",
            "Squared weights times the variances of their inputs on calibration text",
            "arXiv 2312.11983 (FLAP), metric WIFV",
        ),
        Entry(
            "magnitude",
            "prunecast_plugins.pruners.magnitude:Magnitude",
            "Sum of absolute or squared weights; needs no calibration text",
            "arXiv 1608.08710, section 3.1",
        ),
        Entry(
            "random", "prunecast_plugins.pruners.random:Random", "Random order, as a control; needs no calibration text"
        ),
    ]


@hookimpl
def prunecast_evaluators() -> Iterable[Entry]:
    """Evaluators on texts, on questions, and of speed and memory."""
    return [
        Entry(
            "perplexity",
            "prunecast_plugins.evaluators.perplexity:Perplexity",
            "Perplexity of a text in windows of fixed length",
            trial=Trial({"dataset": "python-docs", "tokens": 192, "context": 64}),
        ),
        Entry(
            "kl",
            "prunecast_plugins.evaluators.kl:KL",
            "Kullback-Leibler divergence from the dense model's predictions on a text",
            "arXiv 1503.02531 (distillation), section 2, at temperature 1",
            trial=Trial({"dataset": "python-docs", "tokens": 192, "context": 64}),
        ),
        Entry(
            "multiple_choice",
            "prunecast_plugins.evaluators.multiple_choice:MultipleChoice",
            "Accuracy on ARC, PIQA, OpenBookQA, WinoGrande, Social IQa and custom questions",
            "prompts of https://github.com/EleutherAI/lm-evaluation-harness 0.4",
            trial=Trial({"dataset": "arc_easy", "split": "test", "questions": 3}),
        ),
        Entry(
            "mmlu",
            "prunecast_plugins.evaluators.mmlu:MMLU",
            "Few-shot accuracy on MMLU, mean over subjects",
            "arXiv 2009.03300; prompt of https://github.com/hendrycks/test",
            trial=Trial({"subjects": ["abstract_algebra"], "questions_per_subject": 2, "shots": 1}),
        ),
        Entry(
            "latency",
            "prunecast_plugins.evaluators.latency:Latency",
            "Measured speed of prefill and decoding, bytes of weights and key-value cache",
            trial=Trial(
                {"prompt": 4, "generate": 2, "repeats": 2, "device": "cpu"}, dict.fromkeys(_TIMED, "it measures time")
            ),
        ),
        Entry(
            "lm_eval",
            "prunecast_plugins.evaluators.lm_eval:LMEval",
            "Log-likelihood tasks of the EleutherAI evaluation harness; needs prunecast[lm-eval]",
            "https://github.com/EleutherAI/lm-evaluation-harness",
            trial=Trial({"tasks": ["arc_easy"], "limit": 2}, requires=("lm_eval",)),
        ),
    ]


@hookimpl
def prunecast_predictors() -> Iterable[Entry]:
    """Gradient-boosted trees, Gaussian processes, and any scikit-learn regressor."""
    return [
        Entry(
            "gbdt",
            "prunecast_plugins.predictors.gbdt:GBDT",
            "Gradient-boosted decision trees of scikit-learn, bagged for a standard deviation",
            "arXiv 2309.09507, section 3.2",
            trial=Trial({"trees": 8, "members": 2}),
        ),
        Entry(
            "xgboost",
            "prunecast_plugins.predictors.xgboost:XGBoost",
            "Gradient-boosted decision trees of XGBoost, bagged for a standard deviation",
            "arXiv 1603.02754",
            trial=Trial({"trees": 8, "members": 2}),
        ),
        Entry(
            "gp",
            "prunecast_plugins.predictors.gp:GP",
            "Gaussian process on kept fractions per layer, per neighbourhood and in total; for few training pairs",
            "Rasmussen and Williams 2006, chapters 2 and 5",
        ),
        Entry(
            "blend",
            "prunecast_plugins.predictors.blend:Blend",
            "Equal mixture of a Gaussian process and boosted trees",
            "arXiv 1603.02754; Rasmussen and Williams 2006",
        ),
        Entry(
            "sklearn",
            "prunecast_plugins.predictors.sklearn:Sklearn",
            "Any scikit-learn regressor by import path, its parameters as options",
            "Pedregosa et al., JMLR 12 (2011)",
            trial=Trial({"estimator": "sklearn.ensemble.ExtraTreesRegressor", "n_estimators": 8}),
        ),
    ]


@hookimpl
def prunecast_exporters() -> Iterable[Entry]:
    """Folders of Hugging Face transformers, with code of their own or without, and GGUF files."""
    return [
        Entry(
            "huggingface",
            "prunecast.export.huggingface:HuggingFace",
            "Folder for transformers, with modelling code for layers of different sizes",
        ),
        Entry(
            "stock",
            "prunecast.export.stock:Stock",
            "Folder for a stock class of transformers, vLLM and others; all layers alike, or left out",
        ),
        Entry(
            "gguf",
            "prunecast.export.gguf.exporter:Gguf",
            "GGUF file for llama.cpp, in f32, f16, bf16, q8_0 or q4_0",
            "https://github.com/ggml-org/ggml, docs/gguf.md",
            trial=Trial({}, requires=("xllamacpp",)),
        ),
    ]


@hookimpl
def prunecast_executors() -> Iterable[Entry]:
    """The process of the run, other processes of its machine, and a cluster."""
    return [
        Entry(
            "local",
            "prunecast_plugins.executors.local:Local",
            "The process of the run measures everything, one after another",
            trial=Trial(
                expected_failures={
                    "a_job_that_does_not_fit_is_refused": "the process of the run has the job's own set-up",
                }
            ),
        ),
        Entry(
            "processes",
            "prunecast_plugins.executors.processes:Processes",
            "Processes of this machine, one a GPU, or sharing its cores",
            trial=Trial({"workers": 1}),
        ),
        Entry(
            "ray",
            "prunecast_plugins.executors.ray:Ray",
            "Actors of a Ray cluster, on any number of machines",
            "arXiv 1712.05889",
            trial=Trial(
                {"workers": 1},
                {"global_random_state_is_neither_used_nor_changed": "Ray draws names from the global generator"},
                ("ray",),
            ),
        ),
    ]


@hookimpl
def prunecast_searchers() -> Iterable[Entry]:
    """Searchers that optimise the predicted score."""
    return [
        Entry(
            "tpe",
            "prunecast_plugins.searchers.tpe:TPE",
            "Tree-structured Parzen estimator of Optuna on the predicted score, with local moves",
            "Bergstra et al., NIPS 2011, section 4",
            trial=Trial({"trials": 10, "startup": 80, "seeds": 10, "offspring": 20}),
        ),
        Entry(
            "random",
            "prunecast_plugins.searchers.random:Random",
            "Random architectures at the budget, of which the best predicted are returned",
            "arXiv 2309.09507, section 3.4",
            trial=Trial({"samples": 300}),
        ),
        Entry(
            "evolution",
            "prunecast_plugins.searchers.evolution:Evolution",
            "Evolution by mutations that move capacity between layers; the best predicted survive",
            "arXiv 2410.14649 (EvoPress), algorithm 1",
            trial=Trial({"startup": 80, "survivors": 10, "offspring": 20, "generations": 8}),
        ),
        Entry(
            "optuna",
            "prunecast_plugins.searchers.optuna:Optuna",
            "Any Optuna or OptunaHub sampler by name, its parameters as options",
            "Akiba et al., KDD 2019",
            trial=Trial({"sampler": "RandomSampler", "trials": 10, "startup": 80, "seeds": 10, "batch": 5}),
        ),
    ]
