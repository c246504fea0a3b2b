"""The card of a bundle, and CARD.md for people, generated from it so that the two cannot disagree."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prioritizer.calibration.local_fit import RULE, Fit
from prioritizer.calibration.operating_point import Trade
from prioritizer.inference.bundle import GUARD, sha256_of
from prioritizer.learning.bundling import first_calibration, image_kind_fit
from prioritizer.learning.bundling.first_calibration import FirstMaps
from prioritizer.learning.training.recipes import Recipe
from prioritizer.scope.out_of_distribution import Guards
from prioritizer.statistics.intervals import Figure

if TYPE_CHECKING:
    from prioritizer.learning.bundling.card_statement import Statement

FILES = ("model.onnx", "weights.safetensors", "calibration.json", "golden.npz", GUARD)

MEASURES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "sensitivity": "Sensitivity at t_high",
    "specificity": "Specificity at t_high",
    "share_raised": "Share at or above t_high",
    "brier": "Brier score",
    "ece": "Expected calibration error of P(positive)",
    "ece_at_prior": "The same with the mean set to the set's share of pneumonia",
    "calibration_slope": "Calibration slope (1 is ideal)",
    "calibration_intercept": "Calibration intercept (0 is ideal)",
    "peak_in_boxes": "Films whose map has its highest point in a radiologist's box",
    "share_in_boxes": "Share of the positive contributions in radiologists' boxes",
    "share_in_lungs": "Share of the positive contributions in the lungs, by masks",
}


SMOKE_LIMIT = "Of a smoke run, which took two steps an epoch to show that training works: its figures mean nothing; never for patients."
"""First limit in card and statement of such a run."""

GUARD_PARTS = {
    "image_kind": "Refused by the guard: not a frontal chest radiograph",
    "out_of_distribution": "Beyond the guard's limit: another population or device",
}


def _guard(guards: Guards, beyond: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Of each part: what it was set to refuse of radiographs in scope, and what is beyond its limit of each set."""
    kept = {part: {name: shares[part] for name, shares in beyond.items()} for part in GUARD_PARTS}
    return {
        "image_kind": {"false_alarms_set": image_kind_fit.FALSE_ALARMS, "beyond": kept["image_kind"]},
        "out_of_distribution": {
            "false_alarms_set": guards.population.false_alarms,
            "groups": list(guards.population.groups),
            "beyond": kept["out_of_distribution"],
        },
    }


def weights_in_words(initial: Mapping[str, Any] | None) -> str:
    """Where the first weights came from, as a run's facts hold it; with the licence where a package gave them."""
    if not initial:
        return "from scratch"
    if "package" in initial:
        return f"from ImageNet, package {initial['package']} {initial['version']} ({initial['licence']}, {initial['sha256'][:12]})"
    return f"from {initial['file']} ({initial['sha256'][:12]})"


def card(
    statement: Statement,
    recipe: Recipe,
    facts: Mapping[str, Any],
    *,
    metrics: Mapping[str, Mapping[str, Figure]],
    metrics_of: Mapping[str, Mapping[str, Any]],
    guarded: Mapping[str, Mapping[str, float]],
    guard: Guards,
    first: FirstMaps,
    trades: Mapping[str, Trade],
    scale: float,
    bias: float,
    target: Path,
) -> dict[str, Any]:
    """Everything a bundle says of itself, for `card.toml`; the digests are of the files in `target`."""
    spec = recipe.preprocessing
    weights = facts["initial_weights"]
    return {
        "name": statement.name,
        "title": statement.title,
        "created": datetime.now(UTC).date().isoformat(),
        "intended_use": statement.intended_use,
        "limits": [*([SMOKE_LIMIT] if facts.get("smoke") and SMOKE_LIMIT not in statement.limits else []), *statement.limits],
        "architecture": {
            "timm": recipe.architecture,
            "outputs": recipe.outputs,
            "stride": recipe.stride,
            "weights": weights_in_words(weights),
            "stored": "half precision",
        },
        "preprocessing": {
            "id": spec.id,
            "size": spec.size,
            "resize": spec.resize,
            "tone": spec.tone,
            "mean": list(spec.mean),
            "std": list(spec.std),
        },
        "scope": {
            "modalities": ["CR", "DX"],
            "body_part": "CHEST",
            "views": ["AP", "PA"],
            "species": "human",
            "min_age_years": statement.min_age_years,
            "max_age_years": statement.max_age_years,
            "training_ages": statement.training_ages,
        },
        "saliency": {"scale": scale, "bias": bias},
        "guard": _guard(guard, guarded),
        "calibration": {
            "rule": RULE,
            **({"by_age": first_calibration.RULE} if first.calibration.groups else {}),
            "compared_on_calib": by_group({group: _compared(fit) for group, fit in first.fits.items()}),
        },
        "data": {
            "source": statement.data_source,
            "licence": statement.data_licence,
            "sha256": facts["data_sha256"],
            "images": facts["images"],
            "patients": facts["patients"],
            "pneumonia": facts["pneumonia"],
            **{key: facts[key] for key in ("sources", "without") if facts.get(key)},
        },
        "training": {
            **{key: facts[key] for key in ("prioritizer", "torch", "timm", "epochs_done", "epoch_kept")},
            "recipe": facts["recipe"],
        },
        "metrics": {
            split: {name: [round(f.value, 4), round(f.low, 4), round(f.high, 4)] for name, f in found.items()}
            for split, found in metrics.items()
        },
        "metrics_of": {split: dict(counts) for split, counts in metrics_of.items()},
        "trade_on_val_report": by_group({group: _rounded(trade) for group, trade in trades.items()}),
        "files": {name: sha256_of(target / name) for name in FILES},
    }


def by_group(tables: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """A table for each age group; of a map for everybody, that one table."""
    return tables[""] if "" in tables else dict(tables)


def _compared(fit: Fit) -> dict[str, Any]:
    """Each method that was compared: why it was allowed or not, and its cross-validated log loss."""
    return {
        trial.method: {"why": trial.why} | ({} if trial.log_loss is None else {"log_loss": round(trial.log_loss.value, 5)})
        for trial in fit.trials
    }


def _rounded(trade: Trade) -> dict[str, list[float]]:
    return {name: [round(float(value), 4) for value in getattr(trade, name)] for name in ("logit", "sensitivity", "specificity")}


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
    maps = {"children": calibration, "adults": calibration["adults"]} if "adults" in calibration else {"": calibration}
    fitted = "; ".join(
        f"{f'for {group}: ' if group else ''}{its['method']}, t_high = {its['t_high']:.4f}, {its['n']} images"
        for group, its in maps.items()
    )
    counts = card.get("metrics_of", {})
    seen = [f"{split} ({counts[split]['seen']})" for split in splits if counts.get(split, {}).get("seen")]
    but = f", but for {'; '.join(seen)}" if seen else ""
    lines = [
        "## Figures",
        "",
        f"Calibration `{calibration['id']}` and its threshold were fitted on the calib split ({fitted}). Intervals are 95 %, by patient.",
        "",
        f"No weight, epoch, map or threshold was chosen on the films of these columns{but}.",
        "",
        "| | " + " | ".join(splits) + " |",
        "|---" * (len(splits) + 1) + "|",
    ]
    if counts:
        lines.append("| Films, with pneumonia, patients | " + " | ".join(_counted(counts.get(split, {})) for split in splits) + " |")
    for key, title in MEASURES.items():
        found = [card["metrics"][split].get(key) for split in splits]
        if not any(found):
            continue
        cells = ["{:.3f} ({:.3f} to {:.3f})".format(*figure) if figure else "-" for figure in found]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for key, title in GUARD_PARTS.items():
        shares = card["guard"][key]["beyond"]
        for word in ("", "_with", "_without"):
            if any(f"{split}{word}" in shares for split in splits):
                cells = [f"{shares[f'{split}{word}']:.1%}" if f"{split}{word}" in shares else "-" for split in splits]
                lines.append(f"| {title}{f', of those {word[1:]} the finding' if word else ''} | " + " | ".join(cells) + " |")
    without = {split: its["trained_without"] for split, its in counts.items() if "trained_without" in its}
    lines += ["", *(f"{split}: a network of the same recipe, trained without {', '.join(sites)}." for split, sites in without.items())]
    return [*lines, "", *_calibrations(card), ""]


def _counted(counts: Mapping[str, Any]) -> str:
    return f"{counts['films']}, {counts['pneumonia']}, {counts['patients']}" if counts else "-"


def _calibrations(card: dict[str, Any]) -> list[str]:
    """How the calibration was chosen."""
    table = card["calibration"]
    compared = table["compared_on_calib"]
    lines = ["### Calibration", "", f"Rule: {table['rule']}"]
    for group, its in compared.items() if "by_age" in table else (("", compared),):
        lines += ["", *([f"For {group}:", ""] if group else []), "| map | log loss, cross-validated | |", "|---|---|---|"]
        lines += [f"| {name} | {format(c['log_loss'], '.4f') if 'log_loss' in c else ''} | {c['why']} |" for name, c in its.items()]
    return [*lines, *(["", table["by_age"]] if "by_age" in table else [])]


def _making(card: dict[str, Any]) -> list[str]:
    data, training = card["data"], card["training"]
    counts = "; ".join(
        f"{split}: {data['images'][split]} images of {data['patients'][split]} patients, {data['pneumonia'][split]} with pneumonia"
        for split in data["images"]
    )
    kept = {"last": "the last", "roc-auc": "the best ROC-AUC on the select split", "unlinked": "the best figure without shortcuts"}
    kept["looking"] = "the best mean of ROC-AUC by site and of where its maps lie"
    return [
        "## Data and training",
        "",
        f"{data['source']} Licence: {data['licence']}. Split by patient: {counts}.",
        "",
        *_sources(data),
        f"{card['architecture']['timm']} (timm {training['timm']}, torch {training['torch']}), {card['architecture']['weights']}, "
        f"{training['epochs_done']} epochs, kept: epoch {training['epoch_kept']} ({kept[training['recipe']['select']]}). "
        "The whole recipe is in `card.toml`.",
    ]


def _sources(data: dict[str, Any]) -> list[str]:
    """Each source of the data with what is owed to it; no line where the data are of one cohort."""
    roles = {"both": "learns and judges, by patient", "train": "only learns", "judge": "only judges"}
    lines = [
        f"- {source['name']} (site {source['site']}; {roles[source['role']]}; labels: {source['label_source']}; {source['images']} images, "
        f"{source['pneumonia']} with pneumonia): {source['attribution']}"
        for source in data.get("sources", ())
    ]
    if data.get("without"):
        lines.append(f"- Trained without: {', '.join(data['without'])}.")
    return [*lines, ""] if lines else []
