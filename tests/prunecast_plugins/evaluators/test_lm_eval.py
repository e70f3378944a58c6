"""The EleutherAI harness: the error if it is missing, and a task defined here if it is installed."""

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from evaluator_samples import byte_tokenizer, elastic_of, log_likelihood, model_of, shape_with_room, spoil, write_rows

from prunecast.errors import DataError, EvaluationError, PluginError
from prunecast.models.families.head import head_of
from prunecast_plugins.evaluators.lm_eval import LMEval, LMEvalOptions, hash_of

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason='needs the harness: pip install "prunecast[lm-eval]"'
)

TASK = """\
task: toy
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""
GROUP = "group: toys\ntask: [toy]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
ROWS = [{"question": f"what is {n}", "choices": [f"a{n}", "b" * (n + 1)], "answer": n % 2} for n in range(6)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.fixture
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_rows(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/toy.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"))
    (tmp_path / "tasks/toys.yaml").write_text(GROUP)
    return tmp_path / "tasks"


def prepared(tokenizer: Any, **options: Any) -> LMEval:
    evaluator = LMEval(LMEvalOptions(**options))
    evaluator.prepare(tokenizer, shape_with_room(), None)
    return evaluator


def test_a_missing_harness_is_a_one_line_error_with_the_install_command(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(PluginError, match=r'pip install "prunecast\[lm-eval\]"') as caught:
        prepared(tokenizer, tasks=["arc_easy"])
    assert "\n" not in str(caught.value)


@needs_harness
@pytest.mark.parametrize("name", ["toy", "toys"])
@torch.inference_mode()
def test_a_task_or_group_is_scored_by_the_models_likelihoods(
    name: str, tokenizer: Any, definitions: Path, tiny_model: Callable[..., Any]
) -> None:
    model = elastic_of(model_of(tiny_model, "llama"), gone=(0,)).model
    evaluator = prepared(tokenizer, tasks=[name], definitions=definitions, limit=5)
    [found] = evaluator.evaluate(model)
    right = 0
    for row in ROWS[:5]:
        scores = [
            log_likelihood(model, tokenizer, f"Question: {row['question']}\nAnswer:", f" {choice}")
            for choice in row["choices"]
        ]
        right += scores.index(max(scores)) == row["answer"]
    assert (found.metric.name, found.metric.direction) == (f"{name}.test.acc", "maximize")
    assert (found.value, found.count) == (right / 5, 5)
    assert found.standard_error is not None
    assert evaluator.tokens > 0


@needs_harness
@pytest.mark.parametrize(("bos", "first"), [("always", True), ("never", False), ("auto", False)])
@torch.inference_mode()
def test_with_bos_every_request_begins_with_the_token(
    bos: str, first: bool, definitions: Path, tiny_model: Callable[..., Any]
) -> None:
    tokenizer, model = byte_tokenizer(), model_of(tiny_model, "llama")
    tokenizer.bos_token = "~"
    evaluator = prepared(tokenizer, tasks=["toy"], definitions=definitions, bos=bos)
    read: list[torch.Tensor] = []
    head_of(model)  # found once for every model, as a run does before it measures
    model.model.register_forward_pre_hook(
        lambda _, ids, given: read.append(ids[0] if ids else given["input_ids"]), with_kwargs=True
    )
    evaluator.evaluate(model)
    rows = torch.cat([ids[:, 0] for ids in read[1:]])  # the first call checks that logits are finite
    assert (rows == tokenizer.bos_token_id).all() == first
    assert tokenizer.add_bos_token is False  # the run's own tokenizer stays as it was


@needs_harness
def test_bos_that_changes_the_requests_is_in_the_hash(definitions: Path) -> None:
    plain, adding = byte_tokenizer(), byte_tokenizer()
    for each in (plain, adding):
        each.bos_token = "~"
    adding.add_bos_token = True
    hashes = {
        (name, bos): prepared(tokenizer, tasks=["toy"], definitions=definitions, bos=bos).data_hash
        for name, tokenizer in (("plain", plain), ("adding", adding))
        for bos in ("auto", "never", "always")
    }
    assert hashes["plain", "auto"] == hashes["plain", "never"] == hashes["adding", "auto"]  # as first recorded
    assert hashes["plain", "always"] == hashes["adding", "always"] != hashes["plain", "auto"]
    assert hashes["adding", "never"] != hashes["adding", "auto"]


@needs_harness
def test_shots_and_limit_are_in_the_hash(tokenizer: Any, definitions: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"batch": 2}, {"limit": 3}, {"shots": 1}]
    hashes = [prepared(tokenizer, tasks=["toy"], definitions=definitions, **own).data_hash for own in changes]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


CHANGES = {
    "a corrected answer": ("toy.yaml", "doc_to_target: answer", "doc_to_target: '{{1 - answer}}'"),
    "an answer said otherwise": ("toy.yaml", "doc_to_target: answer", "doc_to_target: 1"),
    "another metric": ("toy.yaml", "- {metric: acc, ", "- {metric: acc_norm, aggregation: mean}\n  - {metric: acc, "),
    "a filter": ("toy.yaml", "metadata:", "filter_list: [{name: n, filter: [{function: take_first}]}]\nmetadata:"),
    "weights of a group": ("toys.yaml", "weight_by_size: true", "weight_by_size: false"),
    "a question": ("toy.yaml", "Question:", "Ask:"),
}


@needs_harness
def test_every_change_of_the_scoring_alters_the_hash(tokenizer: Any, definitions: Path) -> None:
    hashes = {prepared(tokenizer, tasks=["toys"], definitions=definitions).data_hash}
    for name, old, new in CHANGES.values():
        text = (definitions / name).read_text()
        assert old in text
        (definitions / name).write_text(text.replace(old, new))
        hashes.add(prepared(tokenizer, tasks=["toys"], definitions=definitions).data_hash)
        (definitions / name).write_text(text)
    assert len(hashes) == 1 + len(CHANGES)


@needs_harness
def test_paths_of_definitions_and_data_are_not_in_the_hash(tokenizer: Any, definitions: Path) -> None:
    before = prepared(tokenizer, tasks=["toys"], definitions=definitions).data_hash
    elsewhere = definitions.parent / "elsewhere"
    elsewhere.mkdir()
    for path in (*definitions.iterdir(), definitions.parent / "rows.jsonl"):
        (elsewhere / path.name).write_text(path.read_text().replace(f"{definitions.parent}/", f"{elsewhere}/"))
    assert prepared(tokenizer, tasks=["toys"], definitions=elsewhere).data_hash == before


class Plain:
    """The attributes of a harness task that the hash reads."""

    VERSION = 1.0

    def __init__(self, **changes: Any) -> None:
        doc = changes.pop("doc", {"question": "what is 1", "answer": 0})
        config = {"output_type": "multiple_choice", "doc_to_target": "answer", "metric_list": [{"metric": "acc"}]}
        self.config = SimpleNamespace(**{**config, **changes})
        self.instances = [SimpleNamespace(args=("what is 1", choice), doc=doc) for choice in (" a", " b")]

    def doc_to_text(self, doc: dict[str, Any]) -> Any:
        return doc["question"]

    def doc_to_target(self, doc: dict[str, Any]) -> Any:
        target = self.config.doc_to_target
        return target(doc) if callable(target) else doc[target]


def by_first_word(doc: dict[str, Any], results: Any) -> dict[str, float]:
    return {"acc": float(len(results) > len(doc))}


def hash_of_plain(task: Any) -> str:
    return hash_of("0.4.13", [task], lambda request: [[len(text)] for text in request.args])


def test_the_hash_has_answers_and_scoring_but_no_memory_addresses() -> None:
    changed = [
        Plain(),
        Plain(doc={"question": "what is 1", "answer": 1}),
        Plain(doc={"question": "what is 1", "answer": 0, "also_right": [1]}),
        Plain(doc_to_target=lambda doc: doc["answer"]),
        Plain(metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}]),
        Plain(filter_list=[{"name": "first", "filter": [{"function": "take_first"}]}]),
        Plain(process_results=by_first_word),
        Plain(process_results=partial(by_first_word, results=[])),
        SimpleNamespace(get_all_tasks=lambda: [Plain()], aggregate_metric_list=[{"weight_by_size": True}]),
        SimpleNamespace(get_all_tasks=lambda: [Plain()], aggregate_metric_list=[{"weight_by_size": False}]),
    ]
    assert len({hash_of_plain(task) for task in changed}) == len(changed)
    assert hash_of_plain(Plain(metadata={"config_source": "a.yaml"})) == hash_of_plain(Plain())
    assert hash_of_plain(Plain(filter_list=[object()])) == hash_of_plain(Plain(filter_list=[object()]))


@needs_harness
@pytest.mark.parametrize(
    ("options", "problem"),
    [({"tasks": ["no_such_task"]}, "no_such_task"), ({"tasks": ["toy"], "metric": "f1"}, "no metric 'f1'; it has acc")],
)
def test_an_unknown_task_or_metric_is_an_error(
    options: dict[str, Any], problem: str, tokenizer: Any, definitions: Path
) -> None:
    with pytest.raises(DataError, match=problem):
        prepared(tokenizer, definitions=definitions, **options)


@needs_harness
@torch.inference_mode()
def test_non_finite_logits_are_an_error_that_names_evaluator_and_task(
    tokenizer: Any, definitions: Path, tiny_model: Callable[..., Any]
) -> None:
    evaluator = prepared(tokenizer, tasks=["toy"], definitions=definitions)
    with pytest.raises(EvaluationError, match=r"lm_eval on toy\.test\.acc: .* not finite"):
        evaluator.evaluate(spoil(model_of(tiny_model, "llama")))
