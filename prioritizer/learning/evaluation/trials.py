"""On which films a network is judged, and whether it has seen them: the split of a run, a cohort, cohorts of other hospitals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.errors import ConfigError
from prioritizer.inference.bundle import sha256_of
from prioritizer.learning.cohorts.labelled_image import Cohort, Fault, LabelledImage
from prioritizer.learning.cohorts.labels import named
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.cohorts.splits import LEFT_OUT, Splits, read_splits

HONEST = "val_report"
UNSEEN = (HONEST, LEFT_OUT)
"""Splits that nobody has seen: the films of the run's own data kept for the report, and those of a site it was trained without."""
WHY_SEEN = {
    "select": "the epoch that was kept was chosen on these films",
    "calib": "calibration and threshold were made on these films",
    "train": "the network was trained on these films",
    "all": "most of these films are those the network was trained on",
}
"""Splits on which figures flatter, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """Films on which networks are judged."""

    name: str
    root: Path
    images: tuple[LabelledImage, ...]
    form: str
    """How labels were found, and what counts as positive."""
    faults: tuple[Fault, ...]
    own_source: bool
    """They come from the data that the network was trained on."""
    seen: str = ""
    """Why figures on them flatter; empty where they do not."""
    unseen: str = ""
    """Why the network cannot have learned from them, where that is known."""
    ages: AgeGroup | None = None
    """Whose map they are judged by, where a calibration has one for each age group."""

    def only(self, images: Iterable[LabelledImage]) -> EvaluationSet:
        """The same with fewer films."""
        return replace(self, images=tuple(images))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What a person asked for: the cohort, its split, and cohorts beside it."""

    data: Path
    labels: Path | None = None
    split: str = ""
    """Empty: val_report where there are splits, otherwise the whole cohort."""
    splits: Path | None = None
    """splits.json; a run brings its own."""
    on: Mapping[str, Path] | None = None
    seen_allowed: bool = False
    """Films of the training may be reported on; the report says so."""


def trials_of(asked: EvaluationRequest, runs: Sequence[Path]) -> tuple[tuple[EvaluationSet, ...], dict[Path, Splits]]:
    """The trials in order, and the splits of each run. Raises ConfigError for what does not go together."""
    cohort = read_cohort(asked.data, asked.labels)
    splits = {run: read_splits(run / "splits.json", cohort.images, cohort.root) for run in runs}
    known = [*splits.values(), *([read_splits(asked.splits, cohort.images, cohort.root)] if asked.splits else [])]
    own = _by_site(_of_split(cohort, _wanted(asked, has_splits=bool(known)), known) if known else _whole(cohort, cohort.title))
    if not known and asked.split not in ("", "all"):
        raise ConfigError((f"--split {asked.split} needs the splits.json of the run: give --splits FILE",))
    others = [_whole(read_cohort(folder), name) for name, folder in (asked.on or {}).items()]
    if others and known:
        learned = {sha256_of(image.path) for one in known for images in one.values() for image in images}
        others = [_without(trial, learned) for trial in others]
    return (*own, *others), splits


def _by_site(trial: EvaluationSet) -> list[EvaluationSet]:
    """Films of several hospitals are judged apart: who is ill at which of them is no skill of the network."""
    sites = sorted({image.site for image in trial.images})
    if len(sites) < 2:
        return [trial]
    apart = {site: trial.only(image for image in trial.images if image.site == site) for site in sites}
    both = {site: one for site, one in apart.items() if len({image.label for image in one.images}) > 1}
    return [replace(one, name=f"{one.name}, {site or 'no site'}") for site, one in both.items()] or [trial]


def parted_by_age(
    trials: Sequence[EvaluationSet], calibrations: Sequence[Calibration], say: Callable[[str], None]
) -> tuple[EvaluationSet, ...]:
    """Children and adults apart where a calibration has a map for each; an image without an age goes where the first of these puts it."""
    by_age = [one for one in calibrations if one.groups]
    if not by_age:
        return tuple(trials)
    found = []
    for trial in trials:
        parts: dict[AgeGroup, list[LabelledImage]] = {group: [] for group in AgeGroup}
        for image in trial.images:
            parts[by_age[0].group_of(image.age_years)].append(image)
        judged = {group: images for group, images in parts.items() if len({image.label for image in images}) > 1}
        for group in parts.keys() - judged.keys():
            if parts[group]:
                say(f"{trial.name}: {len(parts[group])} films of {group} are of one class and are not judged")
        if not judged:
            raise ConfigError((f"{trial.name}: neither the children nor the adults have films with and without pneumonia",))
        found += [replace(trial.only(images), name=f"{trial.name}, {group}", ages=group) for group, images in judged.items()]
    return tuple(found)


def _wanted(asked: EvaluationRequest, *, has_splits: bool) -> str:
    split = asked.split or (HONEST if has_splits else "all")
    if split not in (*UNSEEN, *WHY_SEEN):
        raise ConfigError((f"--split {split}: choose one of {', '.join((*UNSEEN, *WHY_SEEN))}",))
    if split in ("train", "all") and has_splits and not asked.seen_allowed:
        raise ConfigError((f"--split {split} reports on films the network was trained on; --seen-in-training does it all the same",))
    return split


def _of_split(cohort: Cohort, split: str, known: Sequence[Splits]) -> EvaluationSet:
    """The films that stand in this split of everyone who has splits: nobody is judged on what it has learned."""
    parts = [[image for images in one.values() for image in images] if split == "all" else _named_split(one, split) for one in known]
    common = set.intersection(*({image.path for image in part} for part in parts))
    images = tuple(image for image in parts[0] if image.path in common)
    if not images:
        raise ConfigError((f"the runs have no film of the split {split} in common; train them on the same cohort with the same seed",))
    return EvaluationSet(
        name=f"{cohort.title}, split {split}",
        root=cohort.root,
        images=images,
        form=cohort.form,
        faults=(),
        own_source=split != LEFT_OUT,
        unseen=f"The network was trained without the site {', '.join(sorted({i.site for i in images}))}." if split == LEFT_OUT else "",
        seen=WHY_SEEN.get(split, ""),
    )


def _named_split(splits: Splits, split: str) -> list[LabelledImage]:
    if split not in splits:
        raise ConfigError((f"splits.json has no split {split}, only {', '.join(splits)}",))
    return list(splits[split])


def _whole(cohort: Cohort, name: str) -> EvaluationSet:
    """Every film of a cohort that may judge."""
    cohort = cohort.for_judging()
    return EvaluationSet(name=name, root=cohort.root, images=cohort.images, form=cohort.form, faults=cohort.faults, own_source=False)


def _without(trial: EvaluationSet, learned: set[str]) -> EvaluationSet:
    """A cohort without the films that stand, byte for byte, in the data of the training."""
    known = [image for image in trial.images if sha256_of(image.path) in learned]
    said = "the same file stands in the data of the training; left out"
    faults = [Fault(file=named(image.path, trial.root), what="in-training", said=said) for image in known]
    kept = tuple(image for image in trial.images if image not in known)
    return replace(trial, images=kept, faults=(*trial.faults, *faults))
