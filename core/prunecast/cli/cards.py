"""Quality cards as people read them."""

from typing import Any

from prunecast.cli.output import table, text

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
