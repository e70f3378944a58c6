"""MMLU, compared with explicit prompts and the logits of the stock forward pass."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluator_samples import (
    GONE,
    byte_tokenizer,
    elastic_of,
    model_of,
    real_data,
    shape_with_room,
    smollm2_tokenizer,
    spoil,
    words,
    write_rows,
)

from prunecast.errors import DataError, EvaluationError
from prunecast.models.families.head import head_of
from prunecast.testing.models import shape_of
from prunecast_plugins.evaluators.mmlu import MMLU, MMLUOptions

Rows = list[dict[str, Any]]
SIZES = {"high_school_magic": 7, "law": 3}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


def rows(sizes: Mapping[str, int], seed: int) -> Rows:
    return [
        {
            "subject": subject,
            "question": words(seed + 31 * number + len(subject), 2 + 3 * (number % 4)),
            "choices": [words(seed + 500 + 4 * number + c, 1 + c % 2) for c in range(4)],
            "answer": (number + seed) % 4,
        }
        for subject, size in sizes.items()
        for number in range(size)
    ]


SOLVED, ASKED = rows(dict.fromkeys(SIZES, 5), seed=1), rows(SIZES, seed=2)


def folder_of(tmp_path: Path, asked: Rows = ASKED, solved: Rows = SOLVED) -> Path:
    write_rows(tmp_path / "mmlu/dev.jsonl.gz", solved)
    write_rows(tmp_path / "mmlu/test.jsonl.gz", asked)
    return tmp_path


def prepared(tokenizer: Any, folder: Path, context: int = 100_000, **options: Any) -> MMLU:
    evaluator = MMLU(MMLUOptions(**options))
    evaluator.prepare(tokenizer, shape_with_room(context, len(tokenizer)), folder)
    return evaluator


def written(row: dict[str, Any]) -> str:
    a, b, c, d = row["choices"]
    return f"{row['question']}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:"


def prompt(row: dict[str, Any], shots: int) -> str:
    solved = [one for one in SOLVED if one["subject"] == row["subject"]][:shots]
    subject = {"high_school_magic": "high school magic", "law": "law"}[row["subject"]]
    return (
        f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        + "".join(f"{written(one)} {'ABCD'[one['answer']]}\n\n" for one in solved)
        + written(row)
    )


def answer(model: Any, tokenizer: Any, text: str) -> int:
    letters = [tokenizer(letter)["input_ids"][0] for letter in "ABCD"]
    with torch.inference_mode():
        logits = model(torch.tensor([tokenizer(text)["input_ids"]]), use_cache=False).logits[0, -1]
    return int(logits[letters].argmax())


def solved_by(model: Any, tokenizer: Any, shots: int = 2) -> Rows:
    """The questions with the model's own answers as the right ones."""
    return [row | {"answer": answer(model, tokenizer, prompt(row, shots))} for row in ASKED]


@pytest.mark.parametrize("family", ["llama", "mistral-sliding", "gpt2"])
@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
@torch.inference_mode()
def test_answers_equal_those_of_the_whole_prompt_with_and_without_reuse(
    family: str, gone: tuple[int, ...], tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    model = elastic_of(model_of(tiny_model, family, max_position_embeddings=4096), gone).model
    folder = folder_of(tmp_path, solved_by(model, tokenizer))
    for reuse, batch in ((True, 3), (True, 1), (False, 4)):
        evaluator = prepared(tokenizer, folder, shots=2, reuse_prefix=reuse, batch=batch)
        [found] = evaluator.evaluate(model)
        assert (found.metric.name, found.value, found.count) == ("mmlu.test.accuracy", 1.0, 10)


@torch.inference_mode()
def test_subjects_have_equal_weight(tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    model = model_of(tiny_model, "llama", max_position_embeddings=4096)
    own = solved_by(model, tokenizer)
    wrong = [row | {"answer": (row["answer"] + 1) % 4} for row in own]
    [found] = prepared(tokenizer, folder_of(tmp_path, own[:5] + wrong[5:7] + wrong[7:]), shots=2).evaluate(model)
    assert found.value == pytest.approx((5 / 7 + 0) / 2)
    assert found.standard_error == pytest.approx(math.sqrt((5 / 7) * (2 / 7) / 6) / 2)
    [found] = prepared(tokenizer, tmp_path, shots=2, questions_per_subject=1).evaluate(model)
    assert (found.value, found.standard_error, found.count) == (0.5, None, 2)


@torch.inference_mode()
def test_a_prompt_longer_than_the_context_drops_its_last_shots(
    tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    model = model_of(tiny_model, "llama", max_position_embeddings=4096)
    lengths = {(n, k): len(tokenizer(prompt(row, k))["input_ids"]) for n, row in enumerate(ASKED) for k in range(6)}
    context = sorted(lengths[n, 3] for n in range(len(ASKED)))[len(ASKED) // 2]
    kept = [max(k for k in range(6) if lengths[n, k] <= context) for n in range(len(ASKED))]
    assert len(set(kept)) > 1
    own = [row | {"answer": answer(model, tokenizer, prompt(row, k))} for row, k in zip(ASKED, kept, strict=True)]
    for reuse in (True, False):
        evaluator = prepared(tokenizer, folder_of(tmp_path, own), context, reuse_prefix=reuse)
        assert evaluator.evaluate(model)[0].value == 1.0


@pytest.mark.parametrize("reuse", [True, False])
@torch.inference_mode()
def test_tokens_equal_the_number_fed_to_the_model(
    reuse: bool, tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    model, fed = model_of(tiny_model, "llama", max_position_embeddings=4096), []
    head_of(model)  # found once for every model, as a run does before it measures
    model.model.register_forward_pre_hook(lambda module, given: fed.append(given[0].numel()))
    evaluator = prepared(tokenizer, folder_of(tmp_path), reuse_prefix=reuse, batch=3)
    for _ in range(2):
        fed.clear()
        evaluator.evaluate(model)
        assert sum(fed) == evaluator.tokens


def test_the_hash_depends_on_all_options_except_reuse_and_batch(tokenizer: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "one")
    other = folder_of(tmp_path / "other", [ASKED[0] | {"answer": (ASKED[0]["answer"] + 1) % 4}, *ASKED[1:]])
    same = {
        prepared(tokenizer, folder, reuse_prefix=r, batch=b).data_hash for r, b in ((True, 8), (False, 8), (True, 1))
    }
    changed = [
        prepared(tokenizer, folder, shots=4),
        prepared(tokenizer, folder, questions_per_subject=2),
        prepared(tokenizer, folder, subjects=["law"]),
        prepared(tokenizer, other),
    ]
    assert len(same) == 1
    assert len(same | {evaluator.data_hash for evaluator in changed}) == 5


@torch.inference_mode()
def test_non_finite_logits_are_an_error_that_names_evaluator_and_subject(
    tokenizer: Any, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    model = spoil(model_of(tiny_model, "llama", max_position_embeddings=4096))
    with pytest.raises(EvaluationError, match=r"mmlu, subject high_school_magic: .* not finite"):
        prepared(tokenizer, folder_of(tmp_path), shots=0).evaluate(model)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"subjects": ["lore"]}, "no subject 'lore' in split test; it has high_school_magic, law"),
        ({"questions_per_subject": 4}, "subject law has 3 questions, 4 are wanted"),
        ({"shots": 6}, "subject high_school_magic has 5 shots, 6 are wanted"),
        ({"context": 40}, "a question of high_school_magic is longer than the model's context, 40 tokens"),
    ],
)
def test_options_that_the_data_cannot_satisfy_are_errors(
    options: dict[str, Any], problem: str, tokenizer: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=problem):
        prepared(tokenizer, folder_of(tmp_path), **options)


def test_a_tokenizer_that_does_not_distinguish_the_letters_is_an_error(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = Tokenizer(models.WordLevel({"Answer": 0, "?": 1}, unk_token="?"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(DataError, match="A, B, C and D"):
        prepared(PreTrainedTokenizerFast(tokenizer_object=tokens), folder_of(tmp_path))


@pytest.mark.parametrize(
    ("questions", "factor"), [(5, 2.5), pytest.param(None, 5.0, marks=pytest.mark.slow)], ids=["five", "all"]
)
def test_reuse_saves_most_tokens_of_the_real_questions(questions: int | None, factor: float) -> None:
    folder = real_data()
    tokenizer = smollm2_tokenizer()
    with_reuse, without = (
        prepared(tokenizer, folder, questions_per_subject=questions, reuse_prefix=reuse) for reuse in (True, False)
    )
    assert with_reuse.data_hash == without.data_hash
    assert without.tokens > factor * with_reuse.tokens
    for evaluator in (with_reuse, without):
        assert MMLU(evaluator.options).expected_tokens == pytest.approx(evaluator.tokens, rel=0.2)


def test_options_give_no_token_count_for_a_custom_split() -> None:
    assert MMLU(MMLUOptions(split="mine")).expected_tokens is None
    assert (
        MMLU(MMLUOptions(split="mine", subjects=("law",), questions_per_subject=3, shots=2)).expected_tokens == 5 * 108
    )


@pytest.mark.parametrize("reuse", [True, False])
@torch.inference_mode()
def test_with_bos_every_prompt_begins_with_the_token(
    reuse: bool, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    begin, model = "~", model_of(tiny_model, "gemma2", max_position_embeddings=4096, sliding_window=4096)
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = begin
    own = [row | {"answer": answer(model, tokenizer, begin + prompt(row, 0))} for row in ASKED]
    assert own != solved_by(model, tokenizer, shots=0)
    found = {}
    for bos in ("auto", "never"):
        evaluator = MMLU(MMLUOptions(shots=0, reuse_prefix=reuse, bos=bos))
        evaluator.prepare(tokenizer, shape_of(model.config), folder_of(tmp_path, own))
        found[bos] = (evaluator.evaluate(model)[0].value, evaluator.data_hash)
    assert found["auto"][0] == 1.0 > found["never"][0]
    assert found["auto"][1] != found["never"][1]
