"""The sections on trust: does it serve everyone alike, does it read the lungs or the file, and where do its maps fall."""

from __future__ import annotations

from typing import Any

import numpy as np

from prioritizer.learning.evaluation.evaluate import Evaluation, Judgement
from prioritizer.learning.evaluation.robustness import ELSEWHERE, NO_LUNGS, UNCHANGED
from prioritizer.reports.page import Section, Table
from prioritizer.statistics.measures import mean_figure


def shortcuts(one: Judgement) -> Section:
    """R14: the network beside a model without pictures, and on changed pictures."""
    robust = one.robustness
    rows: list[tuple[object, ...]] = [("network, all films", one.auc, len(one.looked.images))]
    if robust.metadata is not None:
        rows.append(("a model of file size, sharpness and brightness, no picture", robust.metadata, len(one.looked.images)))
        rows.append(("network, matched by these statistics", robust.matched, len(one.looked.images)))
    said = {
        UNCHANGED: "network, unchanged",
        NO_LUNGS: "network, lungs covered (should fall towards 0.5)",
        ELSEWHERE: "network, lungs in the surround of a film of the other class (0 if it read the surround alone)",
    }
    rows += [(said.get(name, f"network, {name}"), figure, robust.n) for name, figure in robust.copies.items()]
    text = ["A network that reads how files were made stands no higher than the model without pictures, and falls on the copies."]
    if robust.metadata is None:
        text.append("Too few films for a model of file statistics.")
    if robust.refused is None:
        text.append("It carries no guard: pictures that are no chest radiograph would be scored.")
    else:
        text.append(f"Its guard refuses {robust.refused:.1%} of these films; they are in all figures here.")
    table = Table(caption="ROC-AUC with its 95 % interval", header=("", "ROC-AUC", "films"), rows=tuple(rows))
    return Section(title="Shortcuts", answers="R14", text=tuple(text), tables=(table,))


def _groups_of_maps(one: Judgement) -> list[tuple[str, np.ndarray]]:
    raised, positive = one.cases.probabilities >= one.at.threshold, one.cases.labels == 1
    known = np.isfinite(one.looked.inside)
    named = (("caught", positive & raised), ("missed", positive & ~raised), ("false alarms", ~positive & raised))
    return [("all", known), *((name, mask & known) for name, mask in named)]


def where_facts(one: Judgement) -> dict[str, Any]:
    """Shares of the maps inside the lungs by group, the lungs' share of the picture, and how often lungs were found."""
    looked = one.looked
    boxed = np.isfinite(looked.boxed)
    return {
        "inside_lungs": {name: float(looked.inside[mask].mean()) if mask.any() else None for name, mask in _groups_of_maps(one)},
        "inside_masks": {name: float(looked.inside[mask].mean()) if mask.any() else None for name, mask in _groups_of_masks(one)},
        "lungs_of_picture": float(looked.lung_area.mean()),
        "lungs_found": float(looked.plausible.mean()),
        "boxes": {
            "n": int(boxed.sum()),
            "peak_inside": float(looked.peaks[boxed].mean()) if boxed.any() else None,
            "share_inside": float(looked.boxed[boxed].mean()) if boxed.any() else None,
            "boxes_of_picture": float(looked.box_area[boxed].mean()) if boxed.any() else None,
        },
    }


def _groups_of_masks(one: Judgement) -> list[tuple[str, np.ndarray]]:
    """Films whose lungs are known by a mask; the map of one without pneumonia says little."""
    known = one.looked.masked & np.isfinite(one.looked.inside)
    return [("with pneumonia", known & (one.cases.labels == 1)), ("without", known & (one.cases.labels == 0))]


def where(found: Evaluation, one: Judgement) -> tuple[Section, ...]:
    """R14: the maps beside the lungs; none for a network without maps."""
    looked = one.looked
    if not np.isfinite(looked.inside).any():
        return ()
    rows: list[tuple[object, ...]] = []
    for name, mask in _groups_of_maps(one):
        patients = [looked.patients[i] for i in np.flatnonzero(mask)]
        rows.append((name, mean_figure(looked.inside[mask], patients, found.seed) if mask.any() else None, int(mask.sum())))
    for name, mask in _groups_of_masks(one):
        if mask.any():
            patients = [looked.patients[i] for i in np.flatnonzero(mask)]
            rows.append((f"lungs known by a mask, {name}", mean_figure(looked.inside[mask], patients, found.seed), int(mask.sum())))
    rows.append(("by chance: the lungs' share of the picture", float(looked.lung_area.mean()), len(looked.images)))
    text = (
        "Share of the positive contributions that fall on the lung fields. A cell of the map is a seventh of the side and sees around "
        "itself: an even map scores the lungs' share of the picture, and no map scores 1.",
        f"Lungs were found on {looked.plausible.mean():.0%} of the films by darkness and shape; elsewhere a template stands in. Dense "
        "consolidations are cut off at their edge. Read this as a hint, beside the pictures.",
    )
    table = Table(caption="Mean with its 95 % interval by patient", header=("", "inside the lungs", "films"), rows=tuple(rows))
    return (Section(title="Where the maps fall", answers="R14", text=text, tables=(table, *_boxes(found, one))),)


def _boxes(found: Evaluation, one: Judgement) -> tuple[Table, ...]:
    """The maps beside radiologists' boxes; none where nothing is boxed."""
    looked = one.looked
    boxed = np.isfinite(looked.boxed)
    if not boxed.any():
        return ()
    patients, n = [looked.patients[i] for i in np.flatnonzero(boxed)], int(boxed.sum())
    rows: tuple[tuple[object, ...], ...] = (
        ("films whose map has its highest point in a box", mean_figure(looked.peaks[boxed], patients, found.seed), n),
        ("share of the positive contributions in the boxes", mean_figure(looked.boxed[boxed], patients, found.seed), n),
        ("by chance: the boxes' share of the picture", float(looked.box_area[boxed].mean()), n),
    )
    return (Table(caption="Beside what radiologists boxed, with 95 % intervals by patient", header=("", "", "films"), rows=rows),)
