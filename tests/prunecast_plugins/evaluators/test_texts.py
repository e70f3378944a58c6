"""Perplexity and KL divergence on a text, compared with sums over the logits of the stock forward pass."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluator_samples import (
    BYTES,
    byte_tokenizer,
    elastic_of,
    model_of,
    shape_with_room,
    spoil,
    without_attention,
    words,
)
from pydantic import ValidationError

from prunecast.data import content_hash
from prunecast.errors import DataError, EvaluationError
from prunecast.testing.models import shape_of
from prunecast_plugins.evaluators import logits
from prunecast_plugins.evaluators.kl import KL, KLOptions
from prunecast_plugins.evaluators.perplexity import Perplexity, PerplexityOptions

BOTH = [(Perplexity, PerplexityOptions), (KL, KLOptions)]
each_evaluator = pytest.mark.parametrize(("evaluator", "options"), BOTH, ids=["perplexity", "kl"])
each_family = pytest.mark.parametrize("case", ["llama", "gemma2", "gpt2", "granite"])


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "a.story.txt"
    path.write_text(words(11, 600))
    return str(path)


@pytest.fixture
def prepared() -> Callable[..., Any]:
    def make(evaluator: Any, options: Any, **given: object) -> Any:
        made = evaluator(options(**{"split": "all"} | given))
        made.prepare(byte_tokenizer(), shape_with_room(), None)
        return made

    return make


def windows_of(text: str, tokenizer: Any, tokens: int, context: int) -> list[torch.Tensor]:
    ids = tokenizer(Path(text).read_text())["input_ids"][:tokens]
    windows = [torch.tensor([ids[start : start + context]]) for start in range(0, tokens, context)]
    return [window for window in windows if window.shape[1] > 1]


def by_window(model: Any, windows: list[torch.Tensor]) -> list[torch.Tensor]:
    """Log-probabilities of all tokens at every position but the last of each window."""
    with torch.inference_mode():
        return [model(window, use_cache=False).logits[0, :-1].log_softmax(-1) for window in windows]


def error_of(windows: list[torch.Tensor]) -> float | None:
    """Standard error of the mean over all tokens; windows are independent and weighted by their tokens."""
    if len(windows) == 1:
        return None
    total, count = sum(map(len, windows)), len(windows)
    mean = float(torch.cat(windows).mean())
    variance = sum((len(window) / total * (float(window.mean()) - mean)) ** 2 for window in windows)
    return math.sqrt(variance * count / (count - 1))


@each_family
@pytest.mark.parametrize(("tokens", "context"), [(90, 20), (81, 20), (82, 20), (64, 64), (40, 64)])
@torch.inference_mode()
def test_perplexity_equals_that_of_the_stock_logits(
    case: str,
    tokens: int,
    context: int,
    text: str,
    prepared: Callable[..., Any],
    tiny_model: Callable[..., Any],
) -> None:
    model = model_of(tiny_model, case)
    windows = windows_of(text, byte_tokenizer(), tokens, context)
    predicted = by_window(model, windows)
    losses = [-p.gather(1, w[0, 1:, None])[:, 0] for p, w in zip(predicted, windows, strict=True)]
    evaluator = prepared(*BOTH[0], dataset=text, tokens=tokens, context=context, batch=2)
    [found] = evaluator.evaluate(model)
    expected = math.exp(torch.cat(losses).mean())
    assert found.value == pytest.approx(expected, rel=1e-4)
    assert found.count == sum(map(len, losses))
    error = error_of(losses)
    assert found.standard_error == (None if error is None else pytest.approx(expected * error, rel=1e-3))


@each_family
@pytest.mark.parametrize(("tokens", "context"), [(90, 20), (82, 20), (40, 64)])
@torch.inference_mode()
def test_divergence_equals_that_of_the_stock_logits(
    case: str, tokens: int, context: int, text: str, prepared: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    model = model_of(tiny_model, case)
    elastic = elastic_of(model)
    windows = windows_of(text, byte_tokenizer(), tokens, context)
    evaluator = prepared(*BOTH[1], dataset=text, tokens=tokens, context=context, batch=3)
    evaluator.observe_dense(elastic.model)
    pruned = elastic_of(model, gone=(0, 2)).model
    [found] = evaluator.evaluate(pruned)
    pairs = list(zip(by_window(model, windows), by_window(pruned, windows), strict=True))
    each = [(p.exp() * (p - q)).sum(-1) for p, q in pairs]
    assert found.value == pytest.approx(float(torch.cat(each).mean()), rel=1e-3)
    error = error_of(each)
    assert found.standard_error == (None if error is None else pytest.approx(error, rel=1e-2))
    assert (found.value > 0.01, found.count) == (True, sum(map(len, each)))


@torch.inference_mode()
def test_divergence_of_the_dense_model_from_itself_is_exactly_zero(
    text: str, prepared: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    elastic = elastic_of(model_of(tiny_model, "llama"))
    evaluator = prepared(*BOTH[1], dataset=text, tokens=300, context=64)
    evaluator.observe_dense(elastic.model)
    dense = elastic.architecture
    elastic.apply(without_attention(dense, gone=(1,)))
    assert evaluator.evaluate(elastic.model)[0].value > 0
    elastic.apply(dense)
    assert evaluator.evaluate(elastic.model)[0].value == 0.0


@each_evaluator
@pytest.mark.parametrize("case", ["llama", "gemma2", "gpt2", "granite"])
def test_losses_sum_to_the_metric_and_have_its_gradient(
    evaluator: Any, options: Any, case: str, text: str, prepared: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    model = model_of(tiny_model, case)
    elastic = elastic_of(model)
    made = prepared(evaluator, options, dataset=text, tokens=100, context=24, batch=2)
    with torch.inference_mode():
        made.observe_dense(elastic.model)
        dense = [model(ids, use_cache=False).logits.clone() for ids in made.windows(model.device)]
        elastic.apply(without_attention(elastic.architecture, gone=(1,)))
        measured = made.evaluate(elastic.model)[0].value
    assert sum(float(loss.value) for loss in made.losses(elastic.model, np.random.default_rng(0))) == pytest.approx(
        math.log(measured) if evaluator is Perplexity else measured, rel=1e-4
    )
    final = [p for p in elastic.model.base_model.parameters() if p.ndim == 1][-1]  # of the last norm
    final.requires_grad_(True)
    for loss in made.losses(elastic.model, np.random.default_rng(0)):
        loss.value.backward()
    found, final.grad = final.grad.clone(), None
    tokens = sum(ids[:, 1:].numel() for ids in made.windows(model.device))
    for ids, logits_of_dense in zip(made.windows(model.device), dense, strict=True):
        q = elastic.model(ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
        p = logits_of_dense.clone()[:, :-1].float().log_softmax(-1)
        plain = -q.gather(2, ids[:, 1:, None]) if evaluator is Perplexity else p.exp() * (p - q)
        (plain.sum() / tokens).backward()
    torch.testing.assert_close(found, final.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("case", ["llama", "gemma2", "granite"])
def test_score_gradients_have_zero_mean_and_the_gauss_newton_second_moment(
    case: str, tiny_model: Callable[..., Any]
) -> None:
    model, count = model_of(tiny_model, case), 20_000
    one = 3 * torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    rows = one.repeat(count, 1).requires_grad_()
    for score in logits.scores(model, rows, np.random.default_rng(1)):
        score.backward()
    jacobian = torch.func.jacfwd(lambda hidden: logits.logits_of(model, hidden[None])[0])(one)
    q = logits.logits_of(model, one[None])[0].softmax(-1).detach()
    expected = jacobian.T @ (torch.diag(q) - torch.outer(q, q)) @ jacobian
    assert rows.grad is not None
    found = rows.grad.T @ rows.grad / count / logits.DRAWS  # each row is a sum of independent draws
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert rows.grad.mean(dim=0).norm() < 5 * (logits.DRAWS * expected.trace() / count).sqrt()


@each_evaluator
@torch.inference_mode()
def test_the_batch_size_does_not_change_the_result(
    evaluator: Any, options: Any, text: str, prepared: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    model = model_of(tiny_model, "llama")
    pruned = elastic_of(model, gone=(0,)).model
    values = []
    for batch in (1, 3, 16):
        made = prepared(evaluator, options, dataset=text, tokens=200, context=24, batch=batch)
        made.observe_dense(model)
        values.append((made.evaluate(pruned)[0].value, made.data_hash))
    assert len({data_hash for _, data_hash in values}) == 1
    assert [value for value, _ in values] == pytest.approx([values[0][0]] * 3, rel=1e-5)


@pytest.mark.parametrize("case", ["llama", "gemma2", "granite"])
def test_divergence_allows_a_smaller_batch_than_the_dense_model_had(
    case: str, text: str, prepared: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    model = model_of(tiny_model, case)
    pruned = elastic_of(model, gone=(0,)).model
    made = prepared(*BOTH[1], dataset=text, tokens=200, context=24, batch=4)
    with torch.inference_mode():
        made.observe_dense(model)
        [before] = made.evaluate(pruned)
        made.options = made.options.model_copy(update={"batch": 1})
        [after] = made.evaluate(pruned)
    assert after.value == pytest.approx(before.value, rel=1e-5)
    losses = [loss.value for loss in made.losses(pruned, np.random.default_rng(0))]
    assert float(sum(losses)) == pytest.approx(before.value, rel=1e-4)


@pytest.mark.parametrize("case", ["llama", "gemma2", "granite"])
@torch.inference_mode()
def test_logit_parts_concatenate_to_the_logits_of_the_head(
    case: str, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logits, "LOGIT_COLUMNS", 100)
    model = model_of(tiny_model, case)
    hidden = torch.randn(30, model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    parts = [part for _, part in logits.logit_parts(model, hidden)]
    assert [part.shape for part in parts] == [(30, 100), (30, 100), (30, 56)]
    torch.testing.assert_close(torch.cat(parts, dim=1), logits.logits_of(model, hidden))


@pytest.mark.parametrize("case", ["llama", "gemma2", "granite"])
@torch.inference_mode()
def test_chunked_losses_and_divergences_equal_those_of_all_logits(
    case: str, tiny_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logits, "LOGIT_COLUMNS", 100)
    monkeypatch.setattr(logits, "LOGIT_ROWS", 16)
    model, generator = model_of(tiny_model, case), torch.Generator().manual_seed(0)
    dense, pruned = 20 * torch.randn(2, 40, model.config.hidden_size, generator=generator)
    targets = torch.randint(0, BYTES, (40,), generator=generator)
    p, q = (logits.logits_of(model, hidden).log_softmax(-1) for hidden in (dense, pruned))
    expected = torch.nn.functional.nll_loss(q, targets, reduction="none")
    torch.testing.assert_close(logits.next_token_losses(model, pruned, targets), expected, rtol=1e-4, atol=1e-4)
    divergence = logits.divergence_from(model, dense.split(7))
    torch.testing.assert_close(divergence(pruned), (p.exp() * (p - q)).sum(-1), rtol=1e-4, atol=1e-4)
    assert not divergence(dense).any()


@each_evaluator
@torch.inference_mode()
def test_non_finite_logits_are_an_error_that_names_evaluator_and_data(
    evaluator: Any, options: Any, text: str, prepared: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    model = spoil(model_of(tiny_model, "llama"))
    made = prepared(evaluator, options, dataset=text, tokens=100, context=50)
    made.observe_dense(model)
    with pytest.raises(EvaluationError, match=rf"{evaluator.title} on .*a\.story\.txt.* not finite"):
        made.evaluate(model)


@each_evaluator
def test_a_context_longer_than_the_models_is_an_error_with_the_limit(evaluator: Any, options: Any, text: str) -> None:
    made = evaluator(options(dataset=text, context=513))
    with pytest.raises(DataError, match="513 is longer than the model's, set it to 512 or less"):
        made.prepare(byte_tokenizer(), shape_with_room(512), None)


@each_evaluator
def test_a_text_that_is_too_short_is_an_error(
    evaluator: Any, options: Any, text: str, prepared: Callable[..., Any]
) -> None:
    with pytest.raises(
        DataError,
        match=r"^(perplexity|kl) on \S+, split test \(5 % of the file; split: all is all of it\): "
        "text has [\\d,]+ tokens, 1,000,000 are wanted",
    ):
        prepared(evaluator, options, dataset=text, split="test", tokens=1_000_000, context=512)


@each_evaluator
def test_metrics_of_a_local_file_are_named_after_its_stem(evaluator: Any, options: Any) -> None:
    kind = {"Perplexity": "ppl", "KL": "kl"}[evaluator.__name__]
    names = {"texts/a.story.txt": "a.story", "b.jsonl.gz#body": "b", "wikitext2": "wikitext2", "org/set": "org/set"}
    for dataset, name in names.items():
        assert evaluator(options(dataset=dataset, split="test")).metrics[0].name == f"{name}.test.{kind}"


def test_divergence_without_a_dense_model_is_an_error(
    text: str, prepared: Callable[..., Any], tiny_model: Callable[..., Any]
) -> None:
    made = prepared(*BOTH[1], dataset=text, tokens=100, context=50)
    with pytest.raises(EvaluationError, match="observe_dense"):
        made.evaluate(model_of(tiny_model, "llama"))


@each_evaluator
def test_spread_windows_cover_the_whole_text(
    evaluator: Any, options: Any, text: str, prepared: Callable[..., Any]
) -> None:
    spread = prepared(evaluator, options, dataset=text, tokens=64, context=16, place="spread")
    ids = byte_tokenizer()(Path(text).read_text())["input_ids"]
    windows = torch.cat(spread.windows(torch.device("cpu")))
    assert windows.shape == (4, 16)
    assert (windows[0].tolist(), windows[-1].tolist()) == (ids[:16], ids[-16:])
    head = prepared(evaluator, options, dataset=text, tokens=64, context=16)
    assert spread.data_hash != head.data_hash
    with pytest.raises(ValidationError, match="place spread takes whole windows: give a multiple of 16 tokens"):
        options(dataset=text, tokens=65, context=16, place="spread")


BEGIN = 200


def with_bos() -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = tokenizer.convert_ids_to_tokens(BEGIN)
    return tokenizer


@pytest.mark.parametrize(("case", "bos"), [("gemma2", "auto"), ("llama", "always"), ("gpt2", "always")])
@pytest.mark.parametrize(("tokens", "context"), [(90, 20), (81, 20), (82, 20), (40, 64)])
def test_with_bos_the_same_tokens_are_predicted_after_one_token_more(
    case: str, bos: str, tokens: int, context: int, text: str, tiny_model: Callable[..., Any]
) -> None:
    model = model_of(tiny_model, case)
    pruned = elastic_of(model, gone=(0, 2)).model
    plain = windows_of(text, byte_tokenizer(), tokens, context)
    begun = [torch.cat([torch.tensor([[BEGIN]]), window], dim=1) for window in plain]
    dense, other = ([each[1:] for each in by_window(m, begun)] for m in (model, pruned))
    losses = torch.cat([-p.gather(1, w[0, 1:, None])[:, 0] for p, w in zip(other, plain, strict=True)])
    divergences = torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in zip(dense, other, strict=True)])
    expected = {Perplexity: losses.mean().exp(), KL: divergences.mean()}
    for evaluator, options in BOTH:
        made = evaluator(options(dataset=text, split="all", tokens=tokens, context=context, batch=2, bos=bos))
        made.prepare(with_bos(), shape_of(model.config), None)
        assert made.tokens == tokens + math.ceil(tokens / context)
        with torch.inference_mode():
            made.observe_dense(model)
            [found] = made.evaluate(pruned)
        assert found.value == pytest.approx(float(expected[evaluator]), rel=1e-3)
        assert found.count == len(losses) == sum(window.shape[1] - 1 for window in plain)
        sums = [float(loss.value) for loss in made.losses(pruned, np.random.default_rng(0))]
        assert sum(sums) == pytest.approx(math.log(found.value) if evaluator is Perplexity else found.value, rel=1e-3)


@each_evaluator
def test_bos_is_in_the_data_hash_where_it_is_put_in_front(
    evaluator: Any, options: Any, text: str, tiny_model: Callable[..., Any]
) -> None:
    hashes = {}
    for case in ("llama", "gemma2"):
        for bos in ("auto", "always", "never"):
            made = evaluator(options(dataset=text, split="all", tokens=90, context=20, bos=bos))
            made.prepare(with_bos(), shape_of(model_of(tiny_model, case).config), None)
            hashes[case, bos] = made.data_hash
    ids = byte_tokenizer()(Path(text).read_text())["input_ids"][:90]
    without, begun = (content_hash(torch.tensor(each)) for each in (ids, [BEGIN, *ids]))
    assert hashes == {
        ("llama", "auto"): without,
        ("llama", "never"): without,
        ("llama", "always"): begun,
        ("gemma2", "auto"): begun,
        ("gemma2", "always"): begun,
        ("gemma2", "never"): without,
    }


@each_evaluator
def test_bos_needs_room_in_the_context_of_the_model(evaluator: Any, options: Any, text: str) -> None:
    made = evaluator(options(dataset=text, context=512, bos="always"))
    with pytest.raises(DataError, match=r"512 and a beginning-of-sequence token are longer .* set it to 511 or less"):
        made.prepare(with_bos(), shape_with_room(512), None)


@each_evaluator
def test_bos_of_a_tokenizer_without_one_is_an_error_that_names_the_data(
    evaluator: Any, options: Any, text: str
) -> None:
    made = evaluator(options(dataset=text, split="all", bos="always"))
    with pytest.raises(DataError, match=rf"^{evaluator.title} on .*a\.story\.txt, split all: bos: always, but"):
        made.prepare(byte_tokenizer(), shape_with_room(), None)


@each_evaluator
def test_a_token_without_an_embedding_is_an_error_before_the_model_reads_it(
    evaluator: Any, options: Any, text: str
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<image>"])
    Path(text).write_text("a picture <image> " * 50)
    made = evaluator(options(dataset=text, split="all", tokens=100, context=50))
    with pytest.raises(DataError, match=f"'<image>', id {BYTES}, and the model has {BYTES} embeddings"):
        made.prepare(tokenizer, shape_with_room(), None)
