"""Spaces cut to what the targets of an export can express."""

from typing import Any

import numpy as np
import pytest
import yaml
from slow_cases import slow_but
from transformers import Gemma3TextConfig, LlamaConfig, OlmoConfig, Qwen2Config, Qwen3Config

from prunecast.architecture.architecture import Architecture
from prunecast.architecture.choices import architectures_at
from prunecast.errors import BudgetError, ModelError, SpecError
from prunecast.plugins.host import PluginHost
from prunecast.plugins.interfaces import SearchProblem
from prunecast.problem.limits import LimitedSpace, cut_components, limits_of, problem_of
from prunecast.problem.problem import Problem
from prunecast.search.initial_design import propose
from prunecast.spec.load import parse_spec
from prunecast.spec.model import RefineSpec, Spec
from prunecast.testing.models import family_of, shape_of

HOST = PluginHost.discover()

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 128,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES, num_hidden_layers=6, tie_word_embeddings=True),
    "qwen3-own-head": Qwen3Config(**SIZES, num_hidden_layers=6, tie_word_embeddings=False),
    "gemma3": Gemma3TextConfig(**SIZES, num_hidden_layers=12, sliding_window=12),
    "qwen2": Qwen2Config(**SIZES, num_hidden_layers=6),
    "olmo": OlmoConfig(**SIZES | {"hidden_size": 128}, num_hidden_layers=6),
}
SPACES = {
    "layerwise": {"use": "layerwise"},
    "with attention gone": {"use": "layerwise", "attention": [0, 0.25, 0.5, 1.0], "mlp": [0, 0.3, 0.6, 1.0]},
    "tied": {"use": "layerwise", "tie": 2},
    "odd widths": {"use": "layerwise", "mlp": [0, 0.11, 0.37, 0.61, 0.83]},
    "uniform with layers gone": {"use": "uniform", "drop": {"layers": "1:-1"}},
}


def spec_of(
    space: dict[str, Any],
    targets: list[Any],
    searcher: str = "random",
    budget: float = 0.8,
    pruner: str | dict[str, Any] = "magnitude",
) -> Spec:
    content = {
        "model": {"source": "tiny"},
        "space": space,
        "pruner": pruner,
        "evaluators": [{"use": "perplexity", "dataset": "python-docs"}],
        "predictor": "gp",
        "searcher": TRIALS[searcher],
        "budget": {"parameters": budget},
        "collect": {"pairs": 24},
        "export": {"path": "out", "targets": targets},
    }
    return parse_spec(yaml.safe_dump({"name": "tiny", **content}, sort_keys=False), HOST)


TRIALS = {
    "random": {"use": "random", "samples": 60},
    "evolution": {"use": "evolution", "startup": 20, "survivors": 5, "offspring": 10, "generations": 3},
    "tpe": {"use": "tpe", "trials": 4, "startup": 20, "seeds": 4, "batch": 2},
}


def problem_for(config: Any, spec: Spec) -> Problem:
    shape = shape_of(config)
    return Problem.of(spec, HOST, shape).within(limits_of(spec, HOST, config, family_of(config), shape))


def total_width(architectures: list[Architecture]) -> np.ndarray[Any, Any]:
    return np.array([float(sum(layer.mlp_width for layer in each.layers)) for each in architectures])


def proposals(problem: Problem, spec: Spec) -> list[Architecture]:
    """What the initial design, the repair of samples and the searcher of a spec propose."""
    choices, rng = problem.space.choices, np.random.default_rng(0)
    fitted = problem.budget.fit(choices, problem.space.sample(40, rng), rng)
    asked = SearchProblem(problem.space, problem.budget, total_width, rng)
    return [
        *architectures_at(choices, problem.shape.dense, fitted),
        *propose(problem, spec.collect),
        *spec.searcher.instance(HOST).search(asked, 20),
    ]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("targets", [["stock"], ["gguf"], ["stock", {"use": "gguf", "dtype": "q8_0"}]], ids=str)
@pytest.mark.parametrize("config", slow_but(("gemma3",), ["llama", "qwen3-own-head", "gemma3"]))
def test_nothing_forbidden_is_ever_proposed(config: str, targets: list[Any], space: str) -> None:
    spec = spec_of(SPACES[space], targets)
    problem = problem_for(CONFIGS[config], spec)
    proposed = proposals(problem, spec)
    assert len(set(proposed)) > 3
    assert [problem_of(problem.limits, each) for each in proposed if not problem.allows(each)] == []


@pytest.mark.parametrize("searcher", ["evolution", "tpe"])
def test_other_searchers_propose_nothing_forbidden(searcher: str) -> None:
    spec = spec_of(SPACES["layerwise"], ["stock"], searcher)
    problem = problem_for(CONFIGS["llama"], spec)
    assert all(map(problem.allows, proposals(problem, spec)))


def test_what_is_forbidden_is_proposed_without_the_targets() -> None:
    """Else the test above could not fail."""
    limits = problem_for(CONFIGS["llama"], spec_of(SPACES["layerwise"], ["stock"])).limits
    free = problem_for(CONFIGS["llama"], spec_of(SPACES["layerwise"], ["huggingface"]))
    found = architectures_at(free.space.choices, free.shape.dense, free.space.sample(40, np.random.default_rng(0)))
    assert free.limits == ()
    assert sum(problem_of(limits, each) is not None for each in found) > 30


def test_targets_that_can_express_everything_change_nothing() -> None:
    problem = problem_for(CONFIGS["llama"], spec_of(SPACES["layerwise"], ["huggingface"]))
    assert not isinstance(problem.space, LimitedSpace)


def test_layers_alike_are_one_choice_of_the_values_that_all_can_take() -> None:
    problem = problem_for(CONFIGS["llama"], spec_of(SPACES["layerwise"], ["stock"]))
    assert [choice.name for choice in problem.space.choices] == ["attention.0-5", "mlp.0-5"]
    assert (0, 0) not in problem.space.choices[0].values
    assert problem.space.choices[1].values == ((48,), (58,), (67,), (77,), (86,), (96,))


def test_further_values_for_refinement_are_those_of_all_layers() -> None:
    problem = problem_for(CONFIGS["llama"], spec_of(SPACES["layerwise"], ["stock"]))
    attention, mlp = problem.space.choices
    assert problem.space.values_at(mlp, 0.75) == ((24,),)
    assert problem.space.values_at(mlp, 1.0) == problem.space.values_at(attention, 1.0) == ()


def test_layers_that_the_space_protects_leave_nothing_to_choose() -> None:
    with pytest.raises(ModelError, match=r"leave the space nothing to choose: let it prune all layers"):
        problem_for(CONFIGS["llama"], spec_of({"use": "layerwise", "layers": "1:-1"}, ["stock"]))


def test_a_budget_that_no_allowed_architecture_meets_is_told() -> None:
    space = {"use": "layerwise", "attention": [0, 1.0], "mlp": [0, 0.2]}
    assert problem_for(CONFIGS["llama"], spec_of(space, ["huggingface"], budget=0.7))
    with pytest.raises(BudgetError, match="no architecture of the search space meets"):
        problem_for(CONFIGS["llama"], spec_of(space, ["stock"], budget=0.7))


def test_a_target_without_a_form_for_the_family_is_told_with_its_place() -> None:
    from transformers import OPTConfig

    spec = spec_of(SPACES["layerwise"], ["huggingface", "gguf"], budget=0.95)
    config = OPTConfig(hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=64)
    with pytest.raises(SpecError, match=r"spec:\d+:\d+: export\.targets.*: gguf: family 'opt' cannot be written"):
        problem_for(config, spec)


BIAS = {"use": "magnitude", "compensate": "bias"}


@pytest.mark.parametrize(
    ("config", "target", "place"),
    [
        ("qwen3-own-head", "stock", "the MLP"),
        ("qwen3-own-head", "gguf", "the attention or the MLP"),
        ("gemma3", "stock", "the MLP"),
        ("gemma3", "gguf", "the attention or the MLP"),
    ],
)
def test_biases_of_a_compensation_without_a_place_are_told_with_their_line(
    config: str, target: str, place: str
) -> None:
    spec = spec_of({"use": "layerwise"}, ["huggingface", target], budget=0.95, pruner=BIAS)
    reason = f"it has no place for a bias of the output projection of {place}"
    with pytest.raises(SpecError, match=rf"spec:8:15: pruner\.compensate: method bias .* target {target} .*{reason}\)"):
        problem_for(CONFIGS[config], spec)
    assert problem_for(CONFIGS[config], spec_of({"use": "layerwise"}, ["huggingface", target], budget=0.95))


@pytest.mark.parametrize(
    ("config", "space", "targets"),
    [
        ("llama", {"use": "layerwise"}, ["stock", "gguf"]),
        ("qwen2", {"use": "layerwise"}, ["gguf"]),
        ("olmo", {"use": "uniform", "attention": [0, 0.25], "mlp": [0]}, ["stock"]),
        ("gemma3", {"use": "layerwise"}, ["huggingface"]),
        ("qwen3-own-head", {"use": "layerwise", "attention": [0, 1.0], "mlp": [0, 1.0]}, ["gguf"]),
        ("qwen3-own-head", {"use": "depth"}, ["stock", "gguf"]),
    ],
    ids=str,
)
def test_biases_that_have_a_place_or_are_never_added_are_allowed(
    config: str, space: dict[str, Any], targets: list[Any]
) -> None:
    assert problem_for(CONFIGS[config], spec_of(space, targets, budget=0.98, pruner=BIAS))


def test_biases_that_only_refinement_adds_are_told() -> None:
    spec = spec_of({"use": "layerwise", "attention": [0, 1.0], "mlp": [0, 1.0]}, ["gguf"], pruner=BIAS)
    with pytest.raises(SpecError, match=r"pruner\.compensate: method bias adds biases"):
        problem_for(CONFIGS["qwen3-own-head"], spec.model_copy(update={"refine": RefineSpec()}))


def test_only_what_is_cut_in_part_is_compensated() -> None:
    dense = shape_of(CONFIGS["llama"]).dense
    cut = {"4x2+96*6": set(), "0+96 4x2+0*5": set(), "3x2+96*6": {"attention"}, "4x1+95*6": {"attention", "mlp"}}
    assert {text: cut_components(dense, [Architecture.parse(text)]) for text in cut} == cut
    assert cut_components(dense, map(Architecture.parse, cut)) == {"attention", "mlp"}


def test_the_key_of_a_spec_has_its_limiting_targets() -> None:
    plain = spec_of(SPACES["layerwise"], ["huggingface"])
    without = plain.model_copy(update={"export": None})
    assert plain.key == without.key
    keys = {spec_of(SPACES["layerwise"], targets).key for targets in (["stock"], ["gguf"], ["stock", "gguf"])}
    assert len(keys | {plain.key}) == 4


def test_a_target_named_twice_is_refused() -> None:
    with pytest.raises(SpecError, match="gguf is named twice"):
        spec_of(SPACES["layerwise"], ["gguf", {"use": "gguf", "dtype": "f16"}])
