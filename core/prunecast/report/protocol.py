"""Sections "Protocol", "Evaluations", "Failures" and "Spec": conditions, reuse and failures of the measurements."""

import json
from collections.abc import Mapping
from typing import Any

from prunecast.registry import RunRecord
from prunecast.report.facts import Facts
from prunecast.report.section import Section, Table
from prunecast.text import counted, number, percent


def section(facts: Facts) -> Section:
    """Section with the conditions needed to interpret and reproduce the numbers."""
    tables = [_conditions(facts), _settings(facts), _versions(facts)]
    text = (
        "The search optimises the metrics of the spec's evaluators; the result has those of its verify section as well."
    )
    return Section("Protocol", [text], tables=tables)


def stages(facts: Facts) -> Section:
    """Section with the numbers of evaluations that were measured and that were found in the registry."""
    rows = [
        [
            row["stage"],
            number(row["evaluations"]),
            number(row["evaluations"] - row["cached"]),
            number(row["cached"]),
            number(float(row["seconds"])),
        ]
        for row in facts.stages
    ]
    columns = ("stage", "evaluations", "measured", "from the registry", "seconds")
    caption = "Evaluations of each stage; seconds include those of evaluations found in the registry"
    reused = sum(row["cached"] for row in facts.stages)
    total = sum(row["evaluations"] for row in facts.stages)
    text = f"{number(reused)} of {number(total)} evaluations were found in the registry and not measured again."
    return Section("Evaluations", [text], tables=[Table(caption, columns, rows)])


def failures(facts: Facts) -> Section:
    """Section with the failed evaluations."""
    if not facts.failures:
        return Section("Failures", ["No evaluation failed."])
    rows = [[row["evaluator"], row["reason"], number(row["attempts"]), row["last_utc"]] for row in facts.failures]
    return Section(
        "Failures", tables=[Table("Failed evaluations", ("evaluator", "reason", "attempts", "last"), rows, prose=True)]
    )


def spec(facts: Facts) -> Section:
    """Section with the text of the spec."""
    return Section("Spec", [f"{facts.record.name}, key {facts.record.key}."], verbatim=facts.record.spec_text.rstrip())


def _conditions(facts: Facts) -> Table:
    dense, model, spec = facts.dense, facts.result["model"], facts.spec
    without = facts.result["dense"]["parameters_without_embeddings"]
    limits, context = facts.result["budget"], spec["budget"].get("context")
    budget = ", ".join(
        f"{quantity.replace('_', ' ')} ≤ {number(limit)}"
        + (f" ({percent(facts.kept(limit))})" if quantity == "parameters" else "")
        for quantity, limit in limits.items()
    )
    rows = [
        ["model", f"{model['source']} ({facts.family}, {counted(len(facts.shape.dense.layers), 'layer')})"],
        ["fingerprint", model["fingerprint"]],
        ["parameters", f"{number(dense.parameters)}, embeddings included; {number(without)} without them"],
        ["number format", model["dtype"]],
        ["budget", (budget or "none") + (f", at {number(context)} tokens of context" if context else "")],
        ["space", _plugin(spec["space"])],
        ["pruner", _plugin(spec["pruner"])],
        ["predictor", _plugin(spec["predictor"])],
        ["searcher", _plugin(spec["searcher"])],
        ["training data", _collected(spec)],
        ["seed", str(spec["seed"])],
        ["run", f"{facts.record.id}, {_when(facts.record)}"],
    ]
    return Table("Conditions", ("", ""), rows, prose=True)


def _when(record: RunRecord) -> str:
    if record.status == "finished":
        return f"{record.started_utc} to {record.finished_utc}"
    return f"result of an earlier start; started again at {record.started_utc} and now {record.status}"


def _collected(spec: Mapping[str, Any]) -> str:
    """Measured architectures that the predictor is fitted on. Specs of earlier versions have no ``neighbours``."""
    rounds = (
        f"{counted(spec['collect']['pairs'], 'pair')}, then {counted(spec['rounds'], 'round')} of {spec['per_round']}"
    )
    around = spec.get("neighbours", 0)
    return rounds + (f", each after estimating local sensitivities at {around} of the best" if around else "")


def _settings(facts: Facts) -> Table:
    used = [*facts.spec["evaluators"], *facts.spec["verify"]["evaluators"]]
    rows = [[use["use"], _plugin(use), ""] for use in used]
    for kind in ("evaluator", "pruner"):
        hashes = {(row[kind], row[f"{kind}_options"]): row[f"{kind}_data"] for row in facts.settings}
        rows += [
            [f"data of {name}", _options(json.loads(options)), data_hash or "none"]
            for (name, options), data_hash in hashes.items()
        ]
    return Table("Data, splits, tokens and context", ("", "options", "token hash"), rows, prose=True)


def _versions(facts: Facts) -> Table:
    columns = ("prunecast", "python", "torch", "transformers", "device")
    rows = [[str(row[column]) for column in columns] for row in facts.versions]
    return Table("Versions and devices of the measurements", columns, rows, prose=True)


def _plugin(use: Mapping[str, Any]) -> str:
    return f"{use['use']}: {_options({key: value for key, value in use.items() if key != 'use'})}"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in options.items()) or "defaults"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_options(value)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)
