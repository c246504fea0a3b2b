"""A statement to be completed: what a person must say of a bundle, with the figures of this very run where figures are due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomlkit

from prioritizer.errors import ConfigError
from prioritizer.learning.bundling.card import SMOKE_LIMIT
from prioritizer.learning.bundling.card_statement import TO_STATE
from prioritizer.learning.cohorts.labelled_image import Cohort, LabelledImage
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.cohorts.splits import read_splits
from prioritizer.learning.evaluation.evaluate import Evaluation, Judgement
from prioritizer.learning.evaluation.robustness import ELSEWHERE, NO_LUNGS
from prioritizer.learning.training.run_folder import Journal


def write(run: Path, data: Path, labels: Path | None, found: Evaluation, target: Path) -> Path:
    """The template for the bundle of a run. Raises ConfigError where the file is there already."""
    if target.exists():
        raise ConfigError((f"{target} is there already; it is not overwritten",))
    cohort = read_cohort(data, labels)
    train = read_splits(run / "splits.json", cohort.images, cohort.root)["train"]
    smoke = bool(Journal(run).facts().get("smoke"))
    target.write_text(text(run.name, cohort, train, found.judgements, smoke=smoke), encoding="utf-8")
    return target


def text(name: str, cohort: Cohort, train: Sequence[LabelledImage], judgements: Sequence[Judgement], *, smoke: bool = False) -> str:
    """TOML: what must be stated, what is known of the data, and limits with figures of films that no choice saw."""
    ages = [image.age_years for image in train if image.age_years is not None]
    attributions = list(dict.fromkeys(source.attribution for source in cohort.sources))
    document = tomlkit.document()
    document.add(tomlkit.comment(f"Complete every {TO_STATE}. The figures are those of this run, on films that had no part in it."))
    limits = tomlkit.array()
    limits.extend([*([SMOKE_LIMIT] if smoke else []), *_of_training(train), *(said for one in judgements for said in _of(one))])
    values: dict[str, Any] = {
        "name": name,
        "title": TO_STATE,
        "intended_use": TO_STATE,
        "data_source": " ".join(attributions) or TO_STATE,
        "data_licence": "as each source says" if attributions else TO_STATE,
        "min_age_years": min(ages, default=0.0),
        "max_age_years": max(ages, default=120.0),
        "training_ages": f"{min(ages):g} to {max(ages):g} years, where stated" if ages else TO_STATE,
        "limits": limits.multiline(multiline=True),
    }
    for key, value in values.items():
        document.add(key, value)
    return tomlkit.dumps(document)


def _of_training(train: Sequence[LabelledImage]) -> list[str]:
    """Which films it knows."""
    views = Counter(image.view for image in train if image.view)
    sites = Counter(image.site for image in train if image.site)
    said = []
    if sites:
        said.append("Trained on films of " + " and ".join(f"{site} ({count})" for site, count in sites.most_common()) + ".")
    if views:
        known = ", ".join(f"{view} ({count} films)" for view, count in views.most_common())
        said.append(f"Trained on views {known}; others are outside what was learned.")
    return said


def _of(one: Judgement) -> list[str]:
    """What its figures are on one trial, and where they are worse."""
    figures, evidence = one.figures, one.evidence
    said = [
        f"{one.trial.name} ({evidence.events} films with, {evidence.non_events} without pneumonia): ROC-AUC {one.auc}, "
        f"sensitivity {figures['sensitivity']}, specificity {figures['specificity']}, calibration error {figures['ece']}."
    ]
    said += [f"{one.trial.name}: ROC-AUC against {name} {figure}." for name, figure in one.against.items()]
    worse = [group for group in one.groups if not group.small and group.auc.high < one.auc.value]
    said += [f"{one.trial.name}, {group.kind} {group.name}: ROC-AUC {group.auc}, lower than on all films." for group in worse]
    for copy in (NO_LUNGS, ELSEWHERE):
        if copy in one.robustness.copies:
            said.append(f"{one.trial.name}, {copy}: ROC-AUC {one.robustness.copies[copy]} on {one.robustness.n} films.")
    return said
