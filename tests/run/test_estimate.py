"""Operations of an estimate, counted by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunecast.plugins.host import PluginHost
from prunecast.run.estimate import EstimatedStage, estimate
from prunecast.spec.load import parse_spec

CONFIG = {
    "model_type": "mistral",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 32_768,
    "sliding_window": None,
}
PROJECTIONS = 32 * 100 + 3 * (2 * 32 * 8 * 4 + 2 * 32 * 8 * 2 + 3 * 32 * 48)
"""Multiply-accumulates of a token in everything but attention scores."""

SPEC = """
model: {source: tiny, config: config.json}
space: {use: layerwise, mlp: [0, 0.5]}
pruner: random
predictor: gp
searcher: random
collect: {pairs: 5}
rounds: 1
verify: {top: 1, evaluators: []}
baselines: []
evaluators: [EVALUATOR]
"""


@pytest.fixture
def dense(tmp_path: Path) -> Any:
    """Stage ``dense`` of the estimate of an evaluator, for a config with changes."""

    def estimated(evaluator: str, **changes: object) -> EstimatedStage:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG | changes))
        host = PluginHost.discover()
        found = estimate(parse_spec(SPEC.replace("EVALUATOR", evaluator), host, path=tmp_path / "spec.yaml"), host)
        return found.stages[0]

    return estimated


def operations(tokens: int, seen: int) -> float:
    """In 10^15, if attention sees so many tokens."""
    return tokens * 2 * (PROJECTIONS + 3 * 2 * 8 * 4 * seen) / 1e15


@pytest.mark.parametrize(("context", "seen"), [(128, 128), (1024, 1024)])
def test_attention_counts_at_the_context_of_the_evaluator(dense: Any, context: int, seen: int) -> None:
    stage = dense(f"{{use: perplexity, dataset: ptb, tokens: 4096, context: {context}}}")
    assert stage.petaflop == pytest.approx(operations(4096, seen))


def test_attention_counts_no_more_than_the_window_and_the_context_of_the_model(dense: Any) -> None:
    evaluator = "{use: perplexity, dataset: ptb, tokens: 4096, context: 256}"
    assert dense(evaluator, sliding_window=64).petaflop == pytest.approx(operations(4096, 64))
    assert dense(evaluator, max_position_embeddings=128).petaflop == pytest.approx(operations(4096, 128))


def test_questions_count_at_the_length_of_their_prompts(dense: Any) -> None:
    stage = dense("{use: mmlu, shots: 2, subjects: [law], questions_per_subject: 3}")
    assert stage.petaflop == pytest.approx(operations(stage.tokens, 3 * 108))
    latency = dense("{use: latency, prompt: 20, generate: 12}")
    assert (latency.tokens, latency.uncounted) == (0, 1)
