"""What a bundle says of itself on the page: what it is for, what it was made of and measured on, and what it cannot do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prioritizer.inference.bundle import Bundle

NAMES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "share_raised": "Share raised",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
    "ece_at_prior": "The same, with the mean set to the set's share",
    "calibration_slope": "Calibration slope",
    "peak_in_boxes": "Maps whose highest point lies in a radiologist's box",
    "share_in_boxes": "Share of the map in radiologists' boxes",
    "share_in_lungs": "Share of the map in the lungs",
}
"""The figures that are told first, and what they are called; any other is told by the card's own word."""


SETS = {
    "val_report": "Val report: other patients of the training hospital",
    "never_seen": "Never seen: films of a hospital that a network of the same recipe was trained without",
    "left_out": "Left out: patients of a hospital that it was not trained on",
}
"""Sets of films whose name says too little."""


def described(bundle: Bundle) -> dict[str, Any]:
    """The card as the page shows it. Figures stand beside their 95 % intervals, one column for each set of films they were measured on."""
    card = bundle.card
    sets = {name: figures for name, figures in card.get("metrics", {}).items() if isinstance(figures, Mapping)}
    return {
        **{key: card.get(key, "") for key in ("name", "title", "intended_use", "limits")},
        "digest": bundle.digest,
        "scope": scope(bundle),
        "data": data(card.get("data", {})),
        "sets": [_set_words(name, card.get("metrics_of", {}).get(name, {})) for name in sets],
        "figures": figures_of(sets, NAMES),
        "more": figures_of(sets, [key for key in dict.fromkeys(key for one in sets.values() for key in one) if key not in NAMES]),
    }


def scope(bundle: Bundle) -> list[tuple[str, str]]:
    """Which images it may score."""
    judged, table = bundle.scope, bundle.card.get("scope", {})
    trained = f"; trained on {table['training_ages']}" if table.get("training_ages") else ""
    return [
        ("modality", ", ".join(judged.modalities)),
        ("body part", str(table.get("body_part", ""))),
        ("views", ", ".join(judged.views)),
        ("ages", f"{judged.min_age_years:g} to {_upper(judged.max_age_years)} years{trained}"),
        ("species", judged.species),
    ]


def data(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What it was trained on, and under which licence."""
    counts = [
        f"{_words(name)}: {images} films"
        + "".join(
            f", {table.get(of, {})[name]} {words}"
            for of, words in (("patients", "patients"), ("pneumonia", "with pneumonia"))
            if name in table.get(of, {})
        )
        for name, images in table.get("images", {}).items()
    ]
    rows = [("films", str(table.get("source", ""))), ("licence", str(table.get("licence", ""))), ("how many", "; ".join(counts))]
    rows += [(f"source {one['name']}", str(one["attribution"])) for one in table.get("sources", ())]
    return [row for row in rows if row[1]]


def figures_of(sets: Mapping[str, Mapping[str, Any]], keys: Sequence[str] | Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Each figure that any set has: its name, and one cell a set."""
    return [
        (NAMES.get(key, _words(key)), [_cell(one.get(key)) for one in sets.values()])
        for key in keys
        if any(key in one for one in sets.values())
    ]


def _set_words(name: str, counts: Mapping[str, Any]) -> str:
    """What a set of films is called, with how many there are."""
    known = next((key for key in SETS if name.startswith(key)), "")
    words = (
        SETS[name]
        if name in SETS
        else _words(name)
        if not known
        else f"{_words(known)}: {name.removeprefix(known).replace('_', ' ').strip()}"
    )
    seen = f"; seen: {counts['seen']}" if counts.get("seen") else ""
    return f"{words} ({counts['films']} films, {counts['pneumonia']} with pneumonia{seen})" if counts else words


def _cell(value: object) -> str:
    """`0.984 (0.974 to 0.992)`."""
    if isinstance(value, Sequence) and len(value) == 3:
        figure, low, high = (float(number) for number in value)
        return f"{figure:.3f} ({low:.3f} to {high:.3f})"
    return f"{float(value):.3f}" if isinstance(value, (int, float)) else "-"


def _words(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _upper(years: float) -> str:
    """17.999 is how a card says `under 18`."""
    return f"{years:g}" if years == int(years) else f"under {math.ceil(years)}"
