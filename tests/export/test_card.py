"""The front matter and the words of a model card."""

from pathlib import Path

import yaml
from huggingface_hub import ModelCard
from workplace import Outcome, Workplace

from prunecast.architecture.architecture import Architecture
from prunecast.export.card import CardContent, Result, render_card
from prunecast.models.license import License


def rendered(**changes: object) -> str:
    content = {
        "model_name": "tiny-80",
        "base_model": "someone/tiny",
        "spec_text": "rounds: 1",
        "columns": ("model", "parameters"),
        "rows": [("this", 107_600_000)],
        "protocol": "WikiText-2 raw test.",
    }
    return render_card(CardContent(**{**content, **changes}), Architecture.parse("2x2+24*2"), 1000)  # type: ignore[arg-type]


def test_a_card_names_its_base_model_and_the_relation_to_it() -> None:
    data = ModelCard(rendered()).data
    assert (data.base_model, data["base_model_relation"]) == ("someone/tiny", "finetune")
    alone = ModelCard(rendered(base_model=None)).data
    assert "base_model_relation" not in alone.to_dict()


def test_results_are_the_model_index_of_the_hub() -> None:
    results = (
        Result("wikitext2.test.ppl", 44.02, "Salesforce/wikitext", "wikitext-2-raw-v1", "test", {"context": 512}),
        Result("mmlu.test.accuracy", 0.25, "cais/mmlu", "all", "test"),
        Result("my texts.test.ppl", 9.5, "my texts", None, "test"),
    )
    card = ModelCard(rendered(results=results))
    first, second, third = card.data.eval_results or []
    assert (card.data.model_name, first.task_type) == ("tiny-80", "text-generation")
    assert (first.dataset_type, first.dataset_config, first.dataset_split) == (
        "Salesforce/wikitext",
        "wikitext-2-raw-v1",
        "test",
    )
    assert (first.metric_type, first.metric_name, first.metric_value) == ("perplexity", "wikitext2.test.ppl", 44.02)
    assert first.metric_args == {"context": 512}
    assert (second.metric_type, second.metric_value) == ("accuracy", 0.25)
    assert (third.dataset_type, third.dataset_name) == ("my-texts", "my texts")
    assert ModelCard(rendered()).data.eval_results is None


def test_the_licence_of_the_dense_model_is_stated_or_said_to_be_missing() -> None:
    other = rendered(license=License("other", "acme [terms]", "https://acme.org/terms"))
    data = ModelCard(other).data
    assert (data.license, data.license_name, data.license_link) == ("other", "acme [terms]", "https://acme.org/terms")
    assert "acme \\[terms\\] ([text](<https://acme.org/terms>))" in other
    none = rendered()
    assert "license" not in yaml.safe_load(none.split("---\n")[1])
    assert "state no licence, so none is stated here" in none


def test_the_protocol_keeps_its_lines() -> None:
    assert "\n\nMeasured.\n\n- ranked on: \\*\n\n## Arch" in rendered(protocol="Measured.\n\n- ranked on: *")


def test_the_card_of_a_run_holds_the_numbers_of_the_model_that_was_exported(
    finished: tuple[Workplace, Outcome], continued: Workplace
) -> None:
    workplace, outcome = finished
    best = outcome.json["best"]
    card = ModelCard.load(workplace.folder / "out" / "tiny" / "README.md")
    results = {result.metric_name: result for result in card.data.eval_results or []}
    assert {name: result.metric_value for name, result in results.items()} == best["metrics"]
    held_out = results["test.test.ppl"]
    assert (held_out.dataset_type, held_out.dataset_split, held_out.metric_type) == ("test", "test", "perplexity")
    assert (held_out.metric_args or {})["tokens"] == 256

    baseline = outcome.json["baselines"][0]
    for folder, options, expected in (
        ("baseline", ("--architecture", baseline["architecture"]), baseline["metrics"]),
        ("unmeasured", ("--architecture", "4x2+24*2 0+12 2x2+0"), {}),
        ("converted", ("--dtype", "bfloat16"), {}),  # other weights than those that were measured
    ):
        done = continued.prunecast("export", "tiny", folder, *options)
        assert done.code == 0, done.stderr
        stated = ModelCard.load(Path(continued.folder, folder, "README.md")).data.eval_results
        assert {result.metric_name: result.metric_value for result in stated or []} == expected
