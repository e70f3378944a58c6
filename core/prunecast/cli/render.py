"""Text forms of results, plans, estimates and quality cards for terminals."""

import json
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from prunecast.cli.output import table
from prunecast.cli.tables import WIDTH, fit
from prunecast.text import counted, duration, percent, size, text, visible

_ESTIMATE_NOTES = (
    "tokens     tokens of forward passes; a training token counts 3 times, as its backward pass costs 2 forward passes",
    "estimated  part of them: of questions by mean length, of instructions on this machine as if all had full length",
    "uncounted  evaluations and trainings without data on this machine and without a length in their options",
)
"""Meaning of the columns of an estimate."""

_SCORES = {
    "r2": "R2",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "kendall_tau": "tau",
    "spearman_rho": "rho",
    "regret": "regret",
    "coverage_68": "68 % coverage",
    "coverage_95": "95 % coverage",
    "calibration_error": "calibration error",
}
"""Headings of the scores of a quality card."""


# ------------------------------------------------------------------------------------------------------ results


def _limit(limit: float) -> str:
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:,.4g}"


def _speeds(result: dict[str, Any]) -> list[str]:
    """A line with the predicted speeds of the dense and the best model, if the budget limits one."""
    dense, best = (result.get("speeds", {}).get(name, {}) for name in ("dense", "best"))
    told = [f"{name} {best[name]:,.4g} of {dense[name]:,.4g} ({best[name] / dense[name]:.1%})" for name in dense]
    return [f"speed         {', '.join(told)}, predicted from times of components"] if told else []


def render_result(result: dict[str, Any], summary: Mapping[str, str]) -> str:
    """The table of a run's dense model, baselines and best architecture, then a summary.

    Args:
        result: the result as JSON.
        summary: sentences of :func:`prunecast.report.summary.summary`.
    """
    from prunecast.registry.records import exports_of

    model, best = result["model"], result["best"]
    predictor, evaluations, recovery = result["predictor"], result["evaluations"], result.get("recovery")
    limits = ", ".join(f"{each} <= {_limit(limit)}" for each, limit in result["budget"].items()) or "none"
    head = f"{result['name']}: run {result['run']} of {_model(model)} in {model['dtype']}, budget {limits}"
    lines = [
        *(labelled(topic, sentence) for topic, sentence in summary.items()),
        *_made_from(model),
        *_speeds(result),
        f"predictor     {predictor['use']}, {counted(predictor['pairs'], 'pair')}: {_quality(predictor)}",
        f"evaluations   {evaluations['measured']} measured, {evaluations['cached']} from the registry",
        *_workers(result.get("workers")),
        f"architecture  {best['architecture']}",
    ]
    lines += _texts(result.get("texts", {}))  # results of earlier versions have none
    if recovery:
        lines.append(f"recovery      {_training(recovery)}")
    for export in exports_of(result):
        state = "unchanged in  " if export.get("unchanged") else "written to    "
        lines.append(f"{state}{export['folder']} ({render_parity(export)})")
    return "\n".join([visible(head), "", _candidates(result), "", *(visible(line, keep="\n") for line in lines)])


def labelled(label: str, sentence: str) -> str:
    """A line of a result: its label, and a sentence on as many lines as it takes."""
    return "\n".join(wrap(visible(sentence), WIDTH, initial_indent=f"{label:14}", subsequent_indent=" " * 14))


def _model(model: dict[str, Any]) -> str:
    """Source of the dense model and, if it is on the Hub, the commit."""
    return f"{model['source']}, commit {model['revision']}," if "revision" in model else str(model["source"])


def _workers(workers: dict[str, Any] | None) -> list[str]:
    """What workers other than the process of the run have done, and how many were lost."""
    if workers is None:
        return []
    answered = workers["answered"]
    lost = ", ".join(f"{number} {how}" for how, number in workers["lost"].items())
    done = f"{sum(answered.values())} tasks by {counted(len(answered), 'worker')} of {workers['executor']}"
    return [f"workers       {done}{f'; lost: {lost}' if lost else ''}"]


def _made_from(model: dict[str, Any]) -> list[str]:
    """The models that the dense model of a run was made from by pruning, the nearest first."""
    return [
        f"made from     {each['model']}, of which run {each['run']} kept {each['architecture']}"
        + (" and trained it" if each.get("recovered") else "")
        for each in reversed(model.get("made_from", []))
    ]


def _candidates(result: dict[str, Any]) -> str:
    dense, best, recovery = result["dense"], result["best"], result.get("recovery")
    metrics = list(dense["metrics"])
    predicted = {**best, "name": "best, predicted", "metrics": best["predicted"]}
    measured = {**best, "name": "best, measured"}
    recovered = [{**recovery["after"], "name": f"best, recovered by {recovery['method']}"}] if recovery else []
    rows = [
        [
            row["name"],
            text(row["parameters"]),
            percent(row["parameters"] / dense["parameters"]),
            *(text(row["metrics"].get(metric)) for metric in metrics),
        ]
        for row in (dense, *result["baselines"], predicted, measured, *recovered)
    ]
    return fit(["", "parameters", "kept", *metrics], rows)


def render_preface(plan: dict[str, Any]) -> str:
    """The notes and texts of a plan, a line each; ``plan`` as ``Plan.to_json``."""
    return "\n".join([*(f"note: {note}" for note in plan["notes"]), *_texts(plan["texts"])])


def _texts(texts: dict[str, list[str]]) -> list[str]:
    return [f"{purpose.replace('_', ' '):16}{'; '.join(names)}" for purpose, names in texts.items()]


def _quality(predictor: dict[str, Any]) -> str:
    if predictor["r2"] is None:
        return "too few to hold any out"
    return f"R2 {predictor['r2']:.3f}, Kendall tau {predictor['kendall_tau']:.3f} on held-out pairs"


def _training(recovery: dict[str, Any]) -> str:
    losses, options = recovery["losses"], recovery["options"]
    training = (
        f"{recovery['method']} on {options['dataset']}, {counted(recovery['steps'], 'step')} of {options['batch']}"
    )
    if losses is None:
        return f"{training}; its losses are not on this machine"
    duration = f"{recovery['seconds']:,.0f} s"
    return f"{training} in {duration}: loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last"


# ---------------------------------------------------------------------------------------------- plans, estimates


def render_plan(plan: dict[str, Any]) -> str:
    """The table of a plan's stages, then the total time; ``plan`` as ``Plan.to_json``."""
    rows = [
        [
            step["stage"],
            text(step["architectures"]),
            text(step["evaluations"]),
            "?" if step["cached"] is None else text(step["cached"]),
            f"{step['seconds']:,.{0 if step['seconds'] >= 10 else 1}f}",
        ]
        for step in plan["steps"]
    ]
    total = (
        f"about {duration(plan['seconds'])} of evaluation, by {plan['basis']}; "
        "loading, ranking, fitting, searching and exporting come on top"
    )
    stages = table(["stage", "architectures", "evaluations", "cached", "seconds"], rows)
    return "\n".join([stages, "", total, "", _memory(plan["memory"]), "", f"placement: {plan['placement']}"])


def _memory(memory: Mapping[str, Mapping[str, int]]) -> str:
    """The table of what each placement of the weights needs."""
    names = {"one": "one, or spread over devices", "stream": "stream"}
    rows = [[name, *(size(memory[placement][part]) for part in _PARTS)] for placement, name in names.items()]
    return table(["memory, about", *_PARTS], rows)


def render_parity(export: dict[str, Any]) -> str:
    """How far a written model is from the measured one, in one clause; ``export`` is a report of an export as JSON."""
    difference = export["max_logit_difference"]
    if difference is None:
        return "not verified: its engine is not installed"
    compared = (export.get("parity") or {"compared": "logits"})["compared"].split(" of ")[0]
    return f"{compared} within {difference:.1e} of the measured model's"


def render_exports(exports: Sequence[Mapping[str, Any]]) -> str:
    """Table of written files and how they compare with the measured model, then what was noted of them.

    Args:
        exports: rows of the registry's table.
    """
    head = ("target", "engine", "difference", "greedy", "perplexity", "measured", "MB", "load s", "prefill", "decode")
    notes = [visible(f"{row['target']}: {note}") for row in exports for note in json.loads(row["notes_json"])]
    return "\n".join([fit(head, [_export_row(row) for row in exports]), *notes])


def _export_row(row: Mapping[str, Any]) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        visible(row["target"]),
        visible(row["engine"] or "not installed"),
        shown(row["max_difference"], ".1e"),
        "" if row["greedy"] is None else f"{row['greedy_equal']}/{row['greedy']}",
        shown(row["perplexity"], ".4f"),
        shown(row["reference_perplexity"], ".4f"),
        shown(row["bytes"] / 1e6, ".1f"),
        shown(row["load_seconds"], ".2f"),
        shown(row["prefill"], ".0f"),
        shown(row["decode"], ".1f"),
    ]


def render_estimate(estimate: dict[str, Any]) -> str:
    """The table of an estimate's stages, its notes, then the total work; ``estimate`` as ``Estimate.to_json``."""
    columns = ("stage", "architectures", "evaluations", "tokens", "estimated", "uncounted", "petaflop")
    stages = estimate["stages"]
    rows = [[text(stage[column]) for column in columns] for stage in stages]
    petaflop = sum(stage["petaflop"] for stage in stages)
    head = f"{estimate['parameters']:,} parameters, {counted(estimate['choices'], 'choice')}"
    more = ", without the uncounted" if any(stage["uncounted"] for stage in stages) else ""
    shown = f"{petaflop:,.0f}" if petaflop >= 10 else f"{petaflop:.2g}"
    # 1 petaflop takes 10 seconds at 100 teraflop/s.
    last = f"{shown} petaflop{more}: {duration(10 * petaflop)} at 100 teraflop/s"
    return "\n".join([head, "", table(columns, rows), "", *_ESTIMATE_NOTES, "", last, "", _memory(estimate["memory"])])


_PARTS = ("calibration", "evaluation")


# ------------------------------------------------------------------------------------------------- quality cards


def render_card(card: dict[str, Any]) -> str:
    """Scores by metric, overall and of the objective, then the learning curve; ``card`` as ``QualityCard.to_json``."""
    scored = {**card["metrics"], "overall": card["overall"], "objective": card["objective"]}
    rows = [[name, *(f"{scores[score]:.3f}" for score in _SCORES)] for name, scores in scored.items()]
    lines = [
        visible(
            f"{card['predictor']} on {card['held_out']} held-out of {card['pairs']} pairs, mean of {card['splits']} "
            f"random splits; standardised targets; regret of the top {card['top']}"
        ),
        fit(["", *_SCORES.values()], rows),
    ]
    if card["learning_curve"]:
        points = [[text(p["pairs"]), f"{p['r2']:.3f}", f"{p['kendall_tau']:.3f}"] for p in card["learning_curve"]]
        lines += ["", table(["pairs fitted on", "R2", "tau"], points)]
    return "\n".join(lines)
