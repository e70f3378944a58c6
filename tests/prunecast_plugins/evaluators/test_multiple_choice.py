"""Multiple choice, compared with log-likelihoods of the stock forward pass, one choice at a time."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluator_samples import (
    FAMILIES,
    byte_tokenizer,
    elastic_of,
    log_likelihood,
    model_of,
    real_data,
    shape_with_room,
    spoil,
    words,
    write_rows,
)

from prunecast.errors import DataError, EvaluationError
from prunecast.models.families.head import head_of
from prunecast.testing.models import shape_of
from prunecast_plugins.evaluators.branches import Branches, read
from prunecast_plugins.evaluators.multiple_choice import MultipleChoice, MultipleChoiceOptions

PROMPTS: dict[str, Callable[[str, str], tuple[str, str]]] = {
    "arc_easy.test": lambda question, choice: (f"Question: {question}\nAnswer:", f" {choice}"),
    "arc_challenge.test": lambda question, choice: (f"Question: {question}\nAnswer:", f" {choice}"),
    "piqa.validation": lambda question, choice: (f"Question: {question}\nAnswer:", f" {choice}"),
    "openbookqa.test": lambda question, choice: (question, f" {choice}"),
    "social_iqa.validation": lambda question, choice: (f"Q: {question}\nA:", f" {choice}"),
    "winogrande.validation": lambda question, choice: (
        question.split("_")[0] + choice,
        " " + question.split("_")[1].strip(),
    ),
}
FILES = {"winogrande": "winogrande_xl"}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


def asked(count: int) -> list[dict[str, Any]]:
    """Questions with a blank and two to five choices of very different lengths."""
    rng = np.random.default_rng(5)
    return [
        {
            "question": f"{words(number, 3)} _ {words(number + 100, 1 + number % 6)}?",
            "choices": [words(1000 + 7 * number + c, int(rng.integers(1, 5))) for c in range(2 + number % 4)],
            "answer": number % 2,
        }
        for number in range(count)
    ]


def prepared(tokenizer: Any, folder: Path | None = None, context: int = 100_000, **options: Any) -> MultipleChoice:
    own = {"split": "all"} if folder is None else {}
    evaluator = MultipleChoice(MultipleChoiceOptions(**own | options))
    evaluator.prepare(tokenizer, shape_with_room(context), folder)
    return evaluator


def likeliest(
    model: Any, tokenizer: Any, rows: Iterable[dict[str, Any]], prompt: Callable[[str, str], tuple[str, str]], size: Any
) -> list[int]:
    answers = []
    for row in rows:
        pairs = [prompt(row["question"], choice) for choice in row["choices"]]
        scores = [log_likelihood(model, tokenizer, *pair) / size(pair[1].strip()) for pair in pairs]
        answers.append(int(np.argmax(scores)))
    return answers


@pytest.mark.parametrize("name", PROMPTS)
@torch.inference_mode()
def test_the_answer_is_the_likeliest_choice_after_the_data_sets_prompt(
    name: str, tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    dataset, split = name.split(".")
    model, rows = elastic_of(model_of(tiny_model, "llama"), gone=(0,)).model, asked(12)
    answers = likeliest(model, tokenizer, rows, PROMPTS[name], len)
    solved = [row | {"answer": answer} for row, answer in zip(rows, answers, strict=True)]
    path = tmp_path / f"zeroshot/{FILES.get(dataset, dataset)}.{split}.jsonl.gz"
    write_rows(path, solved)
    evaluator = prepared(tokenizer, tmp_path, dataset=dataset, split=split)
    [found] = evaluator.evaluate(model)
    assert (found.metric.name, found.value, found.standard_error, found.count) == (f"{name}.accuracy", 1.0, 0.0, 12)
    wrong = [row | {"answer": (row["answer"] + 1) % len(row["choices"])} for row in solved[1:4]]
    write_rows(path, [solved[0], *wrong])
    [found] = prepared(tokenizer, tmp_path, dataset=dataset, split=split).evaluate(model)
    assert (found.value, found.standard_error) == (0.25, pytest.approx(math.sqrt(0.25 * 0.75 / 4)))


@torch.inference_mode()
def test_the_answer_depends_on_the_normalisation(
    tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    model, rows = model_of(tiny_model, "gemma2"), asked(16)
    sizes: dict[str, Callable[[str], int]] = {
        "none": lambda text: 1,
        "bytes": lambda text: len(text.encode()),
        "tokens": lambda text: len(text) + 1,  # one a byte, and one for the leading space
    }
    prompt = PROMPTS["arc_easy.test"]
    answers = {name: likeliest(model, tokenizer, rows, prompt, size) for name, size in sizes.items()}
    assert answers["none"] != answers["bytes"]
    for name, own in answers.items():
        solved = [row | {"answer": answer} for row, answer in zip(rows, own, strict=True)]
        path = write_rows(tmp_path / f"{name}.jsonl", solved)
        assert prepared(tokenizer, dataset=str(path), normalise=name).evaluate(model)[0].value == 1.0


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_choices_read_together_have_the_hidden_states_of_single_passes(
    family: str, tiny_model: Callable[..., Any]
) -> None:
    model = model_of(tiny_model, family)
    rng = np.random.default_rng(3)
    stem = rng.integers(1, 250, 9).tolist()
    questions = [[[*stem[:begin], *rng.integers(1, 250, own).tolist()] for own in (4, 1, 7)] for begin in (9, 3, 0)]
    rows = [Branches.of(choices) for choices in questions]
    hidden = read(model, rows)
    for number, choices in enumerate(questions):
        for one, tokens in enumerate(choices):
            alone = model.base_model(torch.tensor([tokens]), use_cache=False).last_hidden_state[0]
            together = hidden[number, rows[number].columns(one)]
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_common_prefix_of_choices_is_laid_out_once() -> None:
    layout = Branches.of([[1, 2, 3], [1, 2, 4, 5], [1, 2, 3]])
    assert (layout.row, layout.positions) == ([1, 2, 3, 4, 5, 3], [0, 1, 2, 2, 3, 2])
    assert [layout.columns(number) for number in range(3)] == [[0, 1, 2], [0, 1, 3, 4], [0, 1, 5]]
    assert Branches.of([[7], [7, 8]]).stem == []


@torch.inference_mode()
def test_the_batch_size_does_not_change_the_result(
    tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    model, path = model_of(tiny_model, "opt"), write_rows(tmp_path / "own.jsonl.gz", asked(13))
    made = [prepared(tokenizer, dataset=str(path), batch=batch) for batch in (1, 4, 13)]
    assert len({evaluator.data_hash for evaluator in made}) == 1
    assert len({evaluator.evaluate(model)[0].value for evaluator in made}) == 1


@torch.inference_mode()
def test_tokens_equal_the_number_fed_to_the_model(
    tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    model, path = model_of(tiny_model, "llama"), write_rows(tmp_path / "own.jsonl", asked(13))
    evaluator, fed = prepared(tokenizer, dataset=str(path), batch=5), []
    head_of(model)  # found once for every model, as a run does before it measures
    model.model.register_forward_pre_hook(lambda module, given: fed.append(given[0].numel()))
    evaluator.evaluate(model)
    assert sum(fed) == evaluator.tokens


def test_the_first_questions_are_used_and_every_change_alters_the_hash(tokenizer: Any, tmp_path: Path) -> None:
    rows = asked(9)
    changed = {
        "same": rows[:6],
        "longer": rows,
        "answer": [rows[0] | {"answer": 1 - rows[0]["answer"]}, *rows[1:6]],
        "question": [rows[0] | {"question": "Why _?"}, *rows[1:6]],
        "choice": [rows[0] | {"choices": ["yes", "no"]}, *rows[1:6]],
    }
    paths = {name: str(write_rows(tmp_path / f"{name}.jsonl", own)) for name, own in changed.items()}
    hashes = {name: prepared(tokenizer, dataset=path, questions=6).data_hash for name, path in paths.items()}
    assert hashes["same"] == hashes["longer"]
    assert len(set(hashes.values())) == 4


@torch.inference_mode()
def test_non_finite_logits_are_an_error_that_names_evaluator_and_data(
    tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    path = write_rows(tmp_path / "own.jsonl", asked(3))
    with pytest.raises(EvaluationError, match=r"multiple_choice on .*own\.jsonl.* not finite"):
        prepared(tokenizer, dataset=str(path)).evaluate(spoil(model_of(tiny_model, "llama")))


def test_too_few_questions_are_an_error(tokenizer: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.jsonl", asked(3))
    with pytest.raises(DataError, match="3 questions, 4 are wanted"):
        prepared(tokenizer, dataset=str(path), questions=4)


def test_an_empty_data_set_is_an_error(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 questions"):
        prepared(tokenizer, dataset=str(write_rows(tmp_path / "own.jsonl", [])))


def test_a_question_longer_than_the_context_is_an_error_that_names_it(tokenizer: Any, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "own.jsonl", [*asked(3), asked(1)[0] | {"question": "why " * 100}])
    with pytest.raises(DataError, match=r"question 4 has \d+ tokens, the model's context is 300"):
        prepared(tokenizer, dataset=str(path), context=300)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"question": "Why?", "choices": ["a", "b"]}, r"own\.jsonl:2: answer"),
        (
            {"question": "Why?", "choices": ["a", "b"], "answer": 2},
            r"own\.jsonl:2: row: .*answer 2 is not an index into 2 choices",
        ),
        ({"question": "Why?", "choices": ["a"], "answer": 0}, r"own\.jsonl:2: choices"),
        ({"question": "", "choices": ["a", "b"], "answer": 0}, r"own\.jsonl:2: no text in column 'question'"),
        ({"text": "Why?"}, r"own\.jsonl:2: no column 'question'"),
    ],
)
def test_an_invalid_row_is_an_error_that_names_it(
    row: dict[str, Any], problem: str, tokenizer: Any, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "own.jsonl", [asked(1)[0], row])
    with pytest.raises(DataError, match=problem):
        prepared(tokenizer, dataset=str(path))


def test_winogrande_without_a_blank_is_an_error(tokenizer: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "zeroshot/winogrande_xl.validation.jsonl.gz", [asked(1)[0] | {"question": "No blank?"}])
    with pytest.raises(DataError, match="no blank _"):
        prepared(tokenizer, tmp_path, dataset="winogrande")


@pytest.mark.parametrize("name", PROMPTS)
def test_real_data_sets_are_valid(name: str, tokenizer: Any) -> None:
    dataset, split = name.split(".")
    evaluator = prepared(tokenizer, real_data(), dataset=dataset, split=split, questions=200)
    assert evaluator.tokens > 200 * 40


@pytest.mark.parametrize("dataset", ["arc_easy.test", "openbookqa.test"])
@torch.inference_mode()
def test_with_bos_every_question_begins_with_the_token(
    dataset: str, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    begin, model, rows = "~", model_of(tiny_model, "gemma2"), asked(24)
    name, split = dataset.split(".")
    write_rows(tmp_path / f"zeroshot/{name}.{split}.jsonl.gz", rows)
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = begin
    found = {}
    for bos in ("auto", "never"):
        evaluator = MultipleChoice(MultipleChoiceOptions(dataset=name, split=split, bos=bos))
        evaluator.prepare(tokenizer, shape_of(model.config), tmp_path)
        found[bos] = (evaluator.evaluate(model)[0].value, evaluator.data_hash)
    prompt, size = PROMPTS[dataset], lambda text: len(text.encode())
    after = likeliest(model, tokenizer, rows, lambda q, c: (begin + prompt(q, c)[0], prompt(q, c)[1]), size)
    alone = likeliest(model, tokenizer, rows, prompt, size)
    assert after != alone
    right = [row["answer"] for row in rows]
    assert found["auto"][0] == pytest.approx(np.mean(np.equal(after, right)))
    assert found["never"][0] == pytest.approx(np.mean(np.equal(alone, right)))
    assert found["auto"][1] != found["never"][1]
