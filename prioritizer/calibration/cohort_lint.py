"""What is wrong with a labelled cohort, every fault with the file and the mend; nothing leaves it without a line here."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from prioritizer.statistics.subgroups import Traits

MIN_PREVALENCE, MAX_PREVALENCE = 0.02, 0.6
"""Shares of pneumonia outside which a cohort was hardly taken as the studies came."""
MAX_EXCLUDED = 0.1
"""Share of images left out above which the rest may be another population."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortImage:
    """One image of the cohort after it was looked at."""

    file: str
    """Path below the cohort's folder."""
    label: int
    patient: str
    sha256: str = ""
    unreadable: str = ""
    """Why its pixels could not be read; empty when they could."""
    out_of_scope: str = ""
    """Which scope rule it does not meet, in words; empty when none."""
    scope_rule: str = ""
    """The same in a word: `age`, `view`."""
    label_source: str = ""
    traits: Traits = field(default_factory=Traits)
    taken_on: date | None = None
    logit: float | None = None
    unlike: float | None = None
    """Its distance from the training data, in units of the bundle's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortFault:
    """One fault. `excludes`: the image is not analysed; otherwise it is, and the reader is warned."""

    file: str
    """The image, or `(cohort)` for a fault of the whole."""
    what: str
    said: str
    excludes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Two files that hold the same film, by their bytes or by their picture."""

    one: str
    other: str
    exact: bool


WHOLE = "(cohort)"


def lint(
    images: Sequence[CohortImage], twins: Iterable[Twins], *, prevalence: float | None, bundle_made: date | None, ignore_scope: bool
) -> tuple[CohortFault, ...]:
    """Every fault of the cohort. `prevalence` is the site's, where it was given; `bundle_made` the day of the bundle."""
    found = [finding for image in images for finding in _of_image(image, bundle_made, ignore_scope=ignore_scope)]
    left_out = {finding.file for finding in found if finding.excludes}
    found += _duplicates({image.file: image for image in images}, [t for t in twins if not {t.one, t.other} & left_out])
    left_out = {finding.file for finding in found if finding.excludes}
    rest = [image for image in images if image.file not in left_out]
    return (*found, *_of_patients(rest), *_of_the_whole(rest, len(images), prevalence))


def _of_image(image: CohortImage, bundle_made: date | None, *, ignore_scope: bool) -> list[CohortFault]:
    if image.unreadable:
        return [CohortFault(file=image.file, what="unreadable", said=image.unreadable, excludes=True)]
    found = []
    if image.out_of_scope:
        said = image.out_of_scope + (" (kept: --ignore-scope)" if ignore_scope else "")
        found.append(CohortFault(file=image.file, what="out of scope", said=said, excludes=not ignore_scope))
    if image.taken_on and bundle_made and image.taken_on < bundle_made:
        said = f"taken {image.taken_on}, before the bundle was made ({bundle_made}): it may have been among what the network learned from"
        found.append(CohortFault(file=image.file, what="older than the bundle", said=said))
    return found


def _duplicates(images: dict[str, CohortImage], twins: Sequence[Twins]) -> list[CohortFault]:
    """Of the same film one file is analysed; where the labels contradict each other none is."""
    found: list[CohortFault] = []
    gone: set[str] = set()
    for pair in sorted(twins, key=lambda pair: (images[pair.one].label == images[pair.other].label, not pair.exact)):
        how = "the same bytes as" if pair.exact else "the same picture, saved again, as"
        if images[pair.one].label != images[pair.other].label:
            for file, other in ((pair.one, pair.other), (pair.other, pair.one)):
                said = f"{how} {other}, with the other label: one of them is wrong; mend the labels"
                found += [CohortFault(file=file, what="contradictory labels", said=said, excludes=True)] if file not in gone else []
                gone.add(file)
        elif not {pair.one, pair.other} & gone:
            what = "exact duplicate" if pair.exact else "perceptual duplicate"
            patients = "" if images[pair.one].patient == images[pair.other].patient else "; they carry different patients"
            found.append(CohortFault(file=pair.other, what=what, said=f"{how} {pair.one}{patients}", excludes=True))
            gone.add(pair.other)
    return found


def _of_patients(images: Sequence[CohortImage]) -> list[CohortFault]:
    files: dict[str, list[CohortImage]] = defaultdict(list)
    for image in images:
        files[image.patient].append(image)
    found = []
    for several in files.values():
        if len(several) > 1:
            labels = "with both labels, " if len({image.label for image in several}) > 1 else ""
            said = f"{len(several)} images of one patient, {labels}from {several[0].file} on: they count as one patient in every interval"
            found.append(CohortFault(file=several[0].file, what="several images of a patient", said=said))
    return found


def _of_the_whole(images: Sequence[CohortImage], before: int, prevalence: float | None) -> list[CohortFault]:
    counts = Counter(image.label for image in images)
    found = []
    if images and not all(counts[label] for label in (0, 1)):
        only = "pneumonia" if counts[1] else "no pneumonia"
        found.append(
            CohortFault(file=WHOLE, what="one class only", said=f"every image that is left is labelled {only}: nothing can be fitted")
        )
    share = counts[1] / len(images) if images else 0.0
    if images and prevalence is None and not MIN_PREVALENCE <= share <= MAX_PREVALENCE:
        said = (
            f"{share:.0%} of the images are positive: hardly the studies as they came. If the cohort was enriched, give the site's share "
            "as --prevalence, or probabilities will be right for this mix and wrong for the site"
        )
        found.append(CohortFault(file=WHOLE, what="implausible prevalence", said=said))
    if unsaid := sum(not image.label_source for image in images):
        said = f"{unsaid} of {len(images)} labels do not say where they come from: who read what, and did they see the AI result?"
        found.append(CohortFault(file=WHOLE, what="label source missing", said=said))
    if before and (before - len(images)) / before > MAX_EXCLUDED:
        said = f"{before - len(images)} of {before} images are left out: what is left may be another population"
        found.append(CohortFault(file=WHOLE, what="many left out", said=said))
    return found
