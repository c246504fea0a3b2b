"""CARD.md for people, generated from the card so that the two cannot disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MEASURES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "sensitivity": "Sensitivity at t_high",
    "specificity": "Specificity at t_high",
    "share_raised": "Share at or above t_high",
    "brier": "Brier score",
    "ece": "Expected calibration error of P(positive)",
    "calibration_slope": "Calibration slope (1 is ideal)",
    "calibration_intercept": "Calibration intercept (0 is ideal)",
}


def write_card_page(card: dict[str, Any], calibration: dict[str, Any], target: Path) -> None:
    """The card as Markdown."""
    target.write_text("\n".join([*_head(card), *_figures(card, calibration), *_making(card)]) + "\n", encoding="utf-8")


def _head(card: dict[str, Any]) -> list[str]:
    scope = card["scope"]
    return [
        f"# {card['title']}",
        "",
        "Triage support. Not a diagnosis, and no statement that a radiograph is normal.",
        "",
        f"**Intended use.** {card['intended_use']}",
        "",
        f"**Scope.** {', '.join(scope['modalities'])}, {scope['body_part'].lower()}, views {' and '.join(scope['views'])}, "
        f"ages {scope['min_age_years']:g} to {int(scope['max_age_years'])} years (trained on {scope['training_ages']}), "
        f"{scope['species']}.",
        "",
        "**Limits.**",
        "",
        *(f"- {limit}" for limit in card["limits"]),
        "",
    ]


def _figures(card: dict[str, Any], calibration: dict[str, Any]) -> list[str]:
    splits = list(card["metrics"])
    lines = [
        "## Figures",
        "",
        f"Calibration `{calibration['id']}` ({calibration['method']}, slope {calibration['slope']:.4f}) and the threshold "
        f"t_high = {calibration['t_high']:.4f} were fitted on the calib split ({calibration['n']} images), before the figures below were "
        "made. Bootstrap 95 % intervals, resampled by patient. The weights are those of the last epoch; nothing was selected on them.",
        "",
        "| | " + " | ".join(splits) + " |",
        "|---" * (len(splits) + 1) + "|",
    ]
    for key, title in MEASURES.items():
        cells = ["{:.3f} ({:.3f} to {:.3f})".format(*card["metrics"][split][key]) for split in splits]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _making(card: dict[str, Any]) -> list[str]:
    data, training = card["data"], card["training"]
    counts = "; ".join(
        f"{split}: {data['images'][split]} images of {data['patients'][split]} patients, {data['pneumonia'][split]} with pneumonia"
        for split in data["images"]
    )
    return [
        "## Data and training",
        "",
        f"{data['source']} Licence: {data['licence']}. Split by patient: {counts}.",
        "",
        f"{card['architecture']['timm']} (timm {training['timm']}, torch {training['torch']}), {card['architecture']['weights']}, "
        f"{training['epochs_done']} epochs. The whole recipe is in `card.toml`.",
    ]
