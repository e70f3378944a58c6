"""Results, plans, estimates and quality cards as people read them on a terminal."""

from typing import Any

from prunecast.cli.output import table
from prunecast.text import percent, text

SCORES = {
    "r2": "R2",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "kendall_tau": "tau",
    "spearman_rho": "rho",
    "regret": "regret",
    "coverage_68": "in 68 %",
    "coverage_95": "in 95 %",
    "calibration_error": "calibration",
}


def render_card(card: dict[str, Any]) -> str:
    """Scores by metric, overall and of the objective, then the learning curve; ``card`` as ``QualityCard.to_json``."""
    scored = {**card["metrics"], "overall": card["overall"], "objective": card["objective"]}
    rows = [[name, *(f"{scores[score]:.3f}" for score in SCORES)] for name, scores in scored.items()]
    lines = [
        f"{card['predictor']} on {card['held_out']} held-out of {card['pairs']} pairs, mean of {card['splits']} random "
        f"splits; standardised targets; regret of the top {card['top']}",
        table(["", *SCORES.values()], rows),
    ]
    if card["learning_curve"]:
        points = [[text(p["pairs"]), f"{p['r2']:.3f}", f"{p['kendall_tau']:.3f}"] for p in card["learning_curve"]]
        lines += ["", table(["pairs fitted on", "R2", "tau"], points)]
    return "\n".join(lines)


COUNTED = (
    "tokens     go forward through the model; one trained on counts 3 times, as its backward pass takes 2 forward ones",
    "estimated  of them: questions, by their mean length, and instructions found here, as if all had full length",
    "uncounted  evaluations or trainings whose data are not here, and whose options do not tell their length",
    "",
)


def render_result(result: dict[str, Any]) -> str:
    """The result of a run as people read it."""
    model, dense, best = result["model"], result["dense"], result["best"]
    metrics = list(dense["metrics"])
    predicted = {**best, "name": "best, predicted", "metrics": best["predicted"]}
    measured = {**best, "name": "best, measured"}
    recovery = result.get("recovery")
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
    evaluations, predictor, export = result["evaluations"], result["predictor"], result["export"]
    quality = "too few pairs to judge"
    if predictor["r2"] is not None:
        quality = f"R2 {predictor['r2']:.3f}, Kendall tau {predictor['kendall_tau']:.3f} on held-out pairs"
    limits = ", ".join(f"{quantity} <= {limit:,}" for quantity, limit in result["budget"].items()) or "none"
    lines = [
        f"{result['name']}: run {result['run']} of {model['source']} in {model['dtype']}, budget {limits}",
        "",
        table(["", "parameters", "kept", *metrics], rows),
        "",
        f"predictor     {predictor['use']}, {predictor['pairs']} pairs: {quality}",
        f"evaluations   {evaluations['measured']} measured, {evaluations['cached']} from the registry",
        f"architecture  {best['architecture']}",
    ]
    if recovery:
        lines.append(f"recovery      {_recovery_text(recovery)}")
    if export:
        off = export["max_logit_difference"]
        lines.append(f"written to    {export['folder']} (logits within {off:.1e} of the measured model's)")
    return "\n".join(lines)


def _recovery_text(recovery: dict[str, Any]) -> str:
    losses, options = recovery["losses"], recovery["options"]
    trained = f"{recovery['method']} on {options['dataset']}, {recovery['steps']} steps of {options['batch']}"
    if losses is None:
        return f"{trained}, trained elsewhere"
    return f"{trained} in {recovery['seconds']:,.0f} s: loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last"


def render_plan(plan: dict[str, Any]) -> str:
    """A plan as people read it."""
    rows = [
        [
            step["stage"],
            text(step["architectures"]),
            text(step["evaluations"]),
            "?" if step["cached"] is None else text(step["cached"]),
            f"{step['seconds']:,.0f}",
        ]
        for step in plan["steps"]
    ]
    total = f"about {plan['seconds'] / 60:,.1f} minutes of evaluation, by {plan['basis']}"
    return "\n".join([table(["stage", "architectures", "evaluations", "cached", "seconds"], rows), "", total])


def render_estimate(estimate: dict[str, Any]) -> str:
    """An estimate as people read it."""
    columns = ("stage", "architectures", "evaluations", "tokens", "estimated", "uncounted", "petaflop")
    rows = [[text(stage[column]) for column in columns] for stage in estimate["stages"]]
    total = sum(stage["petaflop"] for stage in estimate["stages"])
    head = f"{estimate['parameters']:,} parameters, {estimate['choices']} choices"
    beside = " and what is uncounted" if any(stage["uncounted"] for stage in estimate["stages"]) else ""
    last = f"{total:,.0f} petaflop{beside}; a device of 100 teraflops takes {total / 6:,.0f} minutes"
    return "\n".join([head, "", table(columns, rows), "", *COUNTED, last])
