"""A labelled cohort looked at: every image scored as in service, held against the model's scope, and the same film found twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from prioritizer.calibration import cohort_lint
from prioritizer.calibration.cohort_lint import CohortFault, CohortImage, Twins
from prioritizer.calibration.local_fit import MIN_CLASS, Sample
from prioritizer.dicom.read import attributes
from prioritizer.errors import Unprocessable
from prioritizer.file_scoring.score import files_of
from prioritizer.file_scoring.score_one import NO_HEADER
from prioritizer.inference.bundle import Bundle
from prioritizer.learning.cohorts import duplicates
from prioritizer.learning.cohorts.labels import is_picture
from prioritizer.learning.cohorts.read import Cohort, LabelledImage, read_cohort
from prioritizer.recalibration.cohort_logits import UNREADABLE, Looking, NetworkAnswer
from prioritizer.scope import guard_rules, header_rules
from prioritizer.scope.verdict import ScopeRules, ScopeVerdict
from prioritizer.statistics.subgroups import Traits
from prioritizer.study import Instance, SOPInstanceUID, StudyUID

Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The images of a cohort, what is wrong with them, and those that are analysed."""

    images: tuple[CohortImage, ...]
    findings: tuple[CohortFault, ...]
    form: str
    labelled: bool

    @property
    def analysed(self) -> tuple[CohortImage, ...]:
        """The images that no fault excludes."""
        gone = {finding.file for finding in self.findings if finding.excludes}
        return tuple(image for image in self.images if image.file not in gone)

    @property
    def sample(self) -> Sample:
        """Logits, labels and patients of the analysed images."""
        kept = self.analysed
        logits = np.array([image.logit for image in kept], dtype=np.float64)
        labels = np.array([image.label for image in kept], dtype=np.float64)
        return Sample(logits=logits, labels=labels, patients=[image.patient for image in kept])


def labelled_cohort(root: Path, labels: Path | None) -> Cohort:
    """The images of the cohort at `root` that may judge, with their labels. Raises ConfigError where no form of labels is recognised."""
    return read_cohort(root, labels).for_judging()


def unlabelled_cohort(root: Path) -> Cohort:
    """Every file below `root`, each a patient of its own, without a label that means anything."""
    images = tuple(LabelledImage(path=path, label=0, patient=str(path)) for path in files_of([root]))
    return Cohort(root=root, images=images, faults=(), form="every file of the folder, no labels used")


def gather(
    cohort: Cohort,
    bundle: Bundle,
    looking: Looking,
    *,
    rules: ScopeRules,
    labelled: bool,
    prevalence: float | None,
    ignore_scope: bool,
    tick: Tick,
) -> Gathered:
    """Look at every image, and lint the cohort. `rules` are the site's: what it scores is what its calibration is for.

    Headers and columns first: where too few images are in the scope to fit anything, none is scored.
    """
    judged = [_judged(image, cohort.root, bundle, rules) for image in cohort.images]
    looked = [one for one, _ in judged]
    seen: dict[str, tuple[LabelledImage, NetworkAnswer]] = {}
    if ignore_scope or not labelled or _can_carry_a_fit(looked):
        for number, image in enumerate(cohort.images):
            if not looked[number].unreadable:
                looked[number], what = _look(image, *judged[number], looking, rules)
                if what is not None:
                    seen[looked[number].file] = image, what
            tick(number + 1, len(cohort.images))
    found = cohort_lint.lint(
        looked, _twins(seen), prevalence=prevalence, bundle_made=_day(str(bundle.card.get("created", ""))), ignore_scope=ignore_scope
    )
    files = {image.file for image in looked}
    read = [CohortFault(file=f.file, what=f.what, said=f.said, excludes=f.file not in files) for f in cohort.faults]
    about_labels = ("one class only", "implausible prevalence", "label source missing", "several images of a patient")
    kept = [finding for finding in found if labelled or finding.what not in about_labels]
    return Gathered(images=tuple(looked), findings=(*read, *kept), form=cohort.form, labelled=labelled)


def _judged(image: LabelledImage, root: Path, bundle: Bundle, rules: ScopeRules) -> tuple[CohortImage, ScopeVerdict]:
    """What the header or the columns say of an image, before its pixels are looked at."""
    file = str(image.path.relative_to(root)) if image.path.is_relative_to(root) else image.path.name
    one = CohortImage(file=file, label=image.label, patient=image.patient, label_source=image.label_source)
    try:
        verdict, taken, traits = _scope(image, bundle, rules)
    except UNREADABLE as error:
        return replace(one, unreadable=str(error)), ScopeVerdict(reason=None)
    return _with_reason(replace(one, taken_on=taken, traits=traits), verdict), verdict


def _with_reason(one: CohortImage, verdict: ScopeVerdict) -> CohortImage:
    reason = verdict.reason
    return replace(one, out_of_scope=reason.sentence, scope_rule=reason.rule) if reason else one


def _can_carry_a_fit(looked: Sequence[CohortImage]) -> bool:
    """True where enough patients of each class are in the scope, as far as headers and columns tell."""
    rest = [one for one in looked if not one.unreadable and not one.out_of_scope]
    return all(len({one.patient for one in rest if one.label == label}) >= MIN_CLASS for label in (0, 1))


def _look(
    image: LabelledImage, one: CohortImage, verdict: ScopeVerdict, looking: Looking, rules: ScopeRules
) -> tuple[CohortImage, NetworkAnswer | None]:
    try:
        what = looking.look(image.path)
    except UNREADABLE as error:
        return replace(one, unreadable=str(error)), None
    one = replace(one, sha256=what.sha256, logit=what.logit, unlike=what.figures.out_of_distribution)
    return _with_reason(one, guard_rules.with_guard(verdict, what.figures, rules)), what


def _scope(image: LabelledImage, bundle: Bundle, rules: ScopeRules) -> tuple[ScopeVerdict, date | None, Traits]:
    """Whether the site would score the image, the day it was taken where the header says so, and what is known of it."""
    if is_picture(image.path):
        if image.age_years is None and not image.view:
            return ScopeVerdict(reason=NO_HEADER), None, _traits(image, None)
        instance, taken = _instance_of_columns(image, bundle), None
    else:
        try:
            instance, taken = attributes.instance_of_file(image.path), attributes.study_date_of(image.path)
        except OSError as error:
            raise Unprocessable("file", f"the file cannot be opened ({error.strerror})") from error
        instance = replace(instance, age_years=image.age_years if instance.age_years is None else instance.age_years)
    verdict = header_rules.judge(instance, bundle.scope, rules, scores_secondary_capture=True)
    return verdict, taken, _traits(image, instance)


def _traits(image: LabelledImage, header: Instance | None) -> Traits:
    """The columns of the label file, completed by the header."""
    age = image.age_years if image.age_years is not None or header is None else header.age_years
    return Traits(
        age_years=age,
        sex=image.sex or (header.patient_sex.upper() if header else ""),
        view=image.view or (header.view_position.upper() if header else ""),
        scanner=image.scanner or (header.manufacturer if header else ""),
        site=image.site,
        subtype=image.subtype,
    )


def _instance_of_columns(image: LabelledImage, bundle: Bundle) -> Instance:
    """What the label file says of a picture that has no header, as an instance to be judged."""
    return Instance(
        sop_instance_uid=SOPInstanceUID(""),
        sop_class_uid=header_rules.FOR_PRESENTATION_CLASS,
        study_uid=StudyUID(image.study_uid),
        series_uid="",
        transfer_syntax_uid="",
        calling_ae="",
        called_ae="",
        address="",
        received_at=datetime.fromtimestamp(0, UTC),
        sha256="",
        size=0,
        modality=bundle.scope.modalities[0],
        body_part="CHEST",
        age_years=image.age_years,
        view_position=image.view,
    )


def _twins(seen: dict[str, tuple[LabelledImage, NetworkAnswer]]) -> Sequence[Twins]:
    """Pairs of files that hold one film."""
    if len(seen) < 2:
        return ()
    files = {image.path: file for file, (image, _) in seen.items()}
    thumbnails = np.stack([what.thumbnail for _, what in seen.values()]).astype(np.float32) / np.float32(255)
    pairs = duplicates.pairs([image for image, _ in seen.values()], [what.sha256 for _, what in seen.values()], thumbnails)
    return [Twins(one=files[pair.one.path], other=files[pair.other.path], exact=pair.exact) for pair in pairs]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None
