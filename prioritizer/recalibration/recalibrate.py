"""`prioritizer recalibrate`: a labelled cohort to a candidate calibration in the ledger and a report that says what it is worth.

Nothing takes effect here: a person reads the report and activates the candidate, or does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from prioritizer.calibration import local_fit
from prioritizer.calibration import verdict as calibration_verdict
from prioritizer.calibration.cohort_lint import Finding
from prioritizer.calibration.local_fit import MINED_FALSE_POSITIVES, Fit, Sample
from prioritizer.calibration.maps import AgeGroup, Calibration, sigmoid
from prioritizer.calibration.operating_point import OperatingPoint, Wish, by_flags, kept, operating_point, probability_at
from prioritizer.calibration.verdict import AUC_FLOOR, NOT, SENSITIVITY_FLOOR, Evidence, Fitness
from prioritizer.config.policy import policy_of, rules_of
from prioritizer.config.settings import Settings
from prioritizer.db.decisions import calibrations
from prioritizer.db.decisions.calibrations import Verdict
from prioritizer.db.in_force.calibration import digest_of, document_text
from prioritizer.errors import CalibrationChanged, CohortUnfit, ConfigError
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED
from prioritizer.recalibration import cohort as recalibration_cohort
from prioritizer.recalibration import report as recalibration_report
from prioritizer.recalibration.cohort import Gathered
from prioritizer.recalibration.cohort_logits import Cache, Looking
from prioritizer.reports.page import Section
from prioritizer.scope import out_of_distribution
from prioritizer.statistics.measures import Cases, Figure, figures, roc_auc_figure

CROSS_FITTED = ("sensitivity", "specificity", "share_raised")
"""Figures at a threshold: of a proposed one they are taken cross-fitted, never from the cases that set it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked for."""

    cohort: Path | None
    labels: Path | None = None
    unlabelled: bool = False
    """The labels of the cohort, if any, are not looked at: a shift to `prevalence` only."""
    prevalence: float | None = None
    """Share of pneumonia among the site's studies."""
    label_noise: float = 0.0
    """Share of the positive labels that are false."""
    wish: Wish = field(default_factory=Wish)
    ages: AgeGroup | None = None
    """Whose map is fitted, where the calibration in force has one for each age group; None: every one that the cohort carries."""
    ignore_scope: bool = False
    auc_floor: float = AUC_FLOOR
    by: str = ""
    report: Path | None = None
    cache: Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it for one age group, or for everybody; `candidate` is None where the cohort could not carry one."""

    request: Request
    bundle: Bundle
    in_force: Calibration
    """The whole calibration that applies, with the maps of all age groups."""
    before: Calibration
    """The map of it that is fitted anew."""
    ages: AgeGroup | None
    """Whose map it is; None: everybody's."""
    made_at: datetime
    advice: Fitness
    gathered: Gathered | None = None
    candidate: Calibration | None = None
    """The map in its place."""
    entered: Calibration | None = None
    """The whole candidate: what applies, with the maps that were fitted in the place of theirs."""
    noisy: str = ""
    """What false positives among text-mined labels would change, in words."""
    also: tuple[Outcome, ...] = ()
    """What came of it for the other age group, where the cohort carries both."""
    refused: str = ""
    fit: Fit | None = None
    point: OperatingPoint | None = None
    auc: Figure | None = None
    figures_before: dict[str, Figure] | None = None
    figures_after: dict[str, Figure] | None = None

    @property
    def sample(self) -> Sample:
        """The cases that are analysed, with what is stated of their labels."""
        assert self.gathered is not None
        return replace(self.gathered.sample, false_positives=self.request.label_noise)


def run(
    engine: sa.Engine,
    settings: Settings,
    request: Request,
    now: datetime,
    *,
    tick: recalibration_cohort.Tick = lambda done, of: None,
    extra_sections: Callable[[Outcome], tuple[Section, ...]] = lambda outcome: (),
) -> tuple[Outcome, Path]:
    """Read, score, fit, judge, write the report, enter the candidate; the outcome and the report's path.

    Raises ConfigError for what cannot be asked, CalibrationChanged. A cohort that carries no fit is an outcome with `refused`, and has
    its report too. `extra_sections` adds to the report what is computed elsewhere, such as the effect on the list.
    """
    _possible(request)
    bundle = open_bundle(settings.model.bundle)
    in_force = _in_force(engine, settings, bundle)
    _ages_possible(request, in_force)
    folder = request.cache or settings.store.data / "recalibration"
    gathered = _gathered(request, settings, bundle, folder, tick)
    outcome = _by_age(request, bundle, in_force, gathered, now)
    name = outcome.entered.id if outcome.entered else f"refused-{now:%Y%m%d-%H%M%S}"
    path = (request.report or folder / f"{name}.html").resolve()
    recalibration_report.write(outcome, path, extra_sections(outcome))
    if outcome.entered is not None:
        verdict = Verdict(word=outcome.advice.word, said=outcome.advice.said, report=str(path))
        calibrations.add(engine, bundle.digest, outcome.entered, verdict, request.by, now)
    return outcome, path


def _possible(request: Request) -> None:
    """Raises ConfigError naming everything in the request that does not go together."""
    wish, faults = request.wish, list[str]()
    if request.cohort is None and request.prevalence is None:
        faults.append("give --cohort, or --prevalence for a shift without images")
    if request.unlabelled and (request.cohort is None or request.prevalence is None):
        faults.append("--unlabelled needs --cohort and --prevalence")
    if request.prevalence is not None and not 0 < request.prevalence < 1:
        faults.append("--prevalence is a share between 0 and 1, for example 0.08")
    if not 0 <= request.label_noise < 1:
        faults.append("--label-noise is the share of positive labels that are false, for example 0.15")
    if request.label_noise and (request.cohort is None or request.unlabelled):
        faults.append("--label-noise is about labels: it needs --cohort with them")
    if request.cohort is None and wish.share is not None:
        faults.append("--flags-per-day needs --cohort: a share of studies is read off images")
    if faults := [*faults, *_wish_faults(wish)]:
        raise ConfigError(tuple(faults))


def _wish_faults(wish: Wish) -> list[str]:
    """What in the wish for a threshold does not go together."""
    faults = []
    if not 0 < wish.sensitivity <= 1:
        faults.append("--target-sensitivity is a share, for example 0.95")
    if (wish.flags_per_day is None) != (wish.studies_per_day is None):
        faults.append("--flags-per-day and --studies-per-day go together")
    if wish.share is not None and not 0 < wish.share <= 1:
        faults.append("--flags-per-day must be above 0 and not above --studies-per-day")
    return faults


def _ages_possible(request: Request, in_force: Calibration) -> None:
    """Raises ConfigError where it is not said whose map is meant, or where there is only one."""
    if request.ages is not None and not in_force.groups:
        raise ConfigError((f"--ages {request.ages}: the calibration in force, {in_force.id}, has one map for every age; leave --ages out",))
    if in_force.groups and request.ages is None and (request.cohort is None or request.unlabelled):
        raise ConfigError(("say for whom the prevalence is: --ages children or --ages adults, which have a map each here",))


def _by_age(request: Request, bundle: Bundle, in_force: Calibration, gathered: Gathered | None, now: datetime) -> Outcome:
    """One outcome, or one for each age group that the cohort carries; together they make one candidate."""
    if not in_force.groups:
        return _of_whole([_outcome(request, bundle, in_force, None, gathered, now)])
    groups = [request.ages] if request.ages is not None else _carried(in_force, gathered)
    return _of_whole(
        [_outcome(request, bundle, in_force, group, _only(request, gathered, in_force, group, groups), now) for group in groups]
    )


def _carried(in_force: Calibration, gathered: Gathered | None) -> list[AgeGroup]:
    """The age groups with enough patients of each class to fit their map; the larger one where neither has."""
    assert gathered is not None
    images = {group: [i for i in gathered.analysed if in_force.group_of(i.traits.age_years) is group] for group in AgeGroup}
    enough = [
        group
        for group, its in images.items()
        if all(len({one.patient for one in its if one.label == label}) >= local_fit.LEAST_CLASS for label in (0, 1))
    ]
    return enough or [max(images, key=lambda group: len(images[group]))]


def _only(
    request: Request, gathered: Gathered | None, in_force: Calibration, group: AgeGroup, groups: Sequence[AgeGroup]
) -> Gathered | None:
    """The images of an age group; the others enter no figure of it, and it is said of those that enter none at all.

    Images without an age go where a study without one goes, or where the person says that the cohort belongs.
    """
    if gathered is None:
        return None
    ages = {image.file: image.traits.age_years for image in gathered.analysed}
    theirs = {file: request.ages if request.ages and age is None else in_force.group_of(age) for file, age in ages.items()}
    said = {other: f"of {other}, whose map {'is fitted by itself' if other in groups else 'stays as it is'}" for other in AgeGroup}
    others = [Finding(file=file, what=f"of {its}", said=said[its], excludes=True) for file, its in theirs.items() if its is not group]
    return replace(gathered, findings=(*gathered.findings, *others))


def _of_whole(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcomes with the whole candidate: named once, by the day and by what it says."""
    first = outcomes[0]
    made = first.in_force
    for one in outcomes:
        if one.candidate is not None:
            made = replace(one.candidate, id="") if one.ages is None else made.with_group(one.ages, one.candidate)
    if all(one.candidate is None for one in outcomes):
        return _joined(outcomes)
    made = replace(made, local_limit=_local_limit(outcomes) or made.local_limit)
    digest = digest_of(document_text(first.bundle.digest, replace(made, id="")) + first.made_at.isoformat())
    entered = replace(made, id=f"local-{first.made_at:%Y%m%d}-{digest[:12]}")
    return _joined([replace(one, entered=entered, candidate=one.candidate and _map_of(entered, one.ages)) for one in outcomes])


def _local_limit(outcomes: Sequence[Outcome]) -> float | None:
    """The limit of the distance from the training data that this cohort sets; None where it is too small, or was not looked at."""
    distances = [image.unlike for one in outcomes if one.gathered for image in one.gathered.analysed if image.unlike is not None]
    return out_of_distribution.local_limit(np.array(distances, dtype=np.float64))


def _map_of(calibration: Calibration, ages: AgeGroup | None) -> Calibration:
    return calibration if ages is None else calibration.of_group(ages)


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome that carries the others; its advice is the most careful of them, and says each."""
    if len(outcomes) == 1:
        return outcomes[0]
    worst = calibration_verdict.worst([one.advice for one in outcomes])
    said = " ".join(f"{str(one.ages).capitalize()}: {one.advice.said}" for one in outcomes)
    return replace(outcomes[0], advice=replace(worst, said=said), also=tuple(outcomes[1:]))


def _in_force(engine: sa.Engine, settings: Settings, bundle: Bundle) -> Calibration:
    applies = calibrations.applying(engine, policy_of(settings, bundle))
    if applies.fault:
        raise CalibrationChanged(applies.fault)
    return applies.calibration or bundle.calibration


def _gathered(request: Request, settings: Settings, bundle: Bundle, folder: Path, tick: recalibration_cohort.Tick) -> Gathered | None:
    if request.cohort is None:
        return None
    labelled = not request.unlabelled
    cohort = (
        recalibration_cohort.labelled_cohort(request.cohort, request.labels)
        if labelled
        else recalibration_cohort.unlabelled_cohort(request.cohort)
    )
    looking = Looking(bundle, settings, Cache(folder, bundle, settings.model.precision))
    try:
        return recalibration_cohort.gather(
            cohort,
            bundle,
            looking,
            rules=rules_of(settings),
            labelled=labelled,
            prevalence=request.prevalence,
            ignore_scope=request.ignore_scope,
            tick=tick,
        )
    finally:
        looking.close()


def _outcome(
    request: Request, bundle: Bundle, in_force: Calibration, ages: AgeGroup | None, gathered: Gathered | None, now: datetime
) -> Outcome:
    outcome = Outcome(
        request=request,
        bundle=bundle,
        in_force=in_force,
        before=_map_of(in_force, ages),
        ages=ages,
        made_at=now,
        gathered=gathered,
        advice=calibration_verdict.without_labels(request.auc_floor),
    )
    try:
        return _fitted(outcome) if gathered is not None and gathered.labelled else _shifted(outcome)
    except CohortUnfit as found:
        error = _with_what_was_left_out(found, gathered, bundle)
        refused = replace(outcome.advice, word=NOT, said=f"{str(error).capitalize()}.")
        return replace(outcome, refused=str(error), advice=refused)


def _with_what_was_left_out(error: CohortUnfit, gathered: Gathered | None, bundle: Bundle) -> CohortUnfit:
    """Where images could not be read or were left out by the scope, that is what is missing: more of the same would not help."""
    if gathered is None:
        return error
    files = {image.file for image in gathered.images}
    unread = [finding for finding in gathered.findings if finding.excludes and finding.file not in files]
    if unread:
        counts = ", ".join(f"{count} x {what}" for what, count in Counter(finding.what for finding in unread).most_common())
        example = f"{unread[0].file}: {unread[0].said}"
        error = CohortUnfit((f"rows that were not understood: {counts}, such as {example}", *error.missing))
    left = Counter(image.scope_rule for image in gathered.images if image.scope_rule)
    if not left:
        return error
    counts = ", ".join(f"{count} by {rule}" for rule, count in left.most_common())
    scope = f"{bundle.scope.min_age_years:g} to {bundle.scope.max_age_years:g} years, {' and '.join(bundle.scope.views)}"
    said = f"of {len(gathered.images)} images left out as outside the scope: {counts} (the bundle is for {scope}; the report names each)"
    return CohortUnfit((said, *error.missing))


def _shifted(outcome: Outcome) -> Outcome:
    """Without labels: the map before, moved to a stated prevalence."""
    request, before, gathered = outcome.request, outcome.before, outcome.gathered
    assert request.prevalence is not None
    if gathered is None:
        after = local_fit.shifted_from_its_own(before, request.prevalence)
        t_high, t_low = kept(before, after)
        return _with_candidate(outcome, replace(after, fitted_on="no images: the difference of two prevalences"), t_high, t_low, 0, 0)
    sample = gathered.sample
    if len(sample.logits) < 2 * local_fit.LEAST_CLASS:
        raise CohortUnfit((f"{len(sample.logits)} images, {2 * local_fit.LEAST_CLASS} are needed for a shift",))
    after = local_fit.shifted_to(sample.logits, before, request.prevalence)
    t_high, t_low = kept(before, after)
    if request.wish.share is not None:
        t_high = probability_at(after, by_flags(sample.logits, sample.labels * 0 + 1, request.wish.share))
    return _with_candidate(outcome, replace(after, fitted_on="images without labels"), t_high, min(t_low, t_high), len(sample.logits), 0)


def _fitted(outcome: Outcome) -> Outcome:
    """With labels: the method that the cohort carries and that wins, its thresholds, and all figures before and after."""
    request, before, gathered = outcome.request, outcome.before, outcome.gathered
    assert gathered is not None
    sample = outcome.sample
    fit = local_fit.recalibrate(sample, before, request.prevalence, request.seed)
    point = operating_point(sample, before, fit.after, request.wish, request.prevalence, request.seed)
    auc = roc_auc_figure(sample.logits, sample.labels, sample.patients, request.seed)
    first, second = (
        figures(
            Cases(probabilities=sigmoid(sample.as_labelled(odds)), labels=sample.labels, patients=sample.patients),
            before.t_high,
            request.seed,
        )
        for odds in (fit.before, fit.held_out)
    )
    later = {name: figure for name, figure in second.items() if name not in CROSS_FITTED}
    evidence = Evidence(
        cohort="",
        events=int(sample.labels.sum()),
        non_events=int((sample.labels == 0).sum()),
        patients=(sample.patients_with(1), sample.patients_with(0)),
        auc=auc,
        figures=later,
        sensitivity=point.sensitivity,
        specificity=point.specificity,
        scope_ignored=request.ignore_scope,
        mined=any(image.label_source == TEXT_MINED for image in gathered.analysed),
        threshold_chosen=request.wish.share is not None or request.wish.sensitivity < SENSITIVITY_FLOOR,
    )
    said = calibration_verdict.judge([evidence], auc_floor=request.auc_floor)
    if fit.winner == local_fit.NONE:
        said = replace(said, said=f"{said.said} What applies now is as good as any fit: only thresholds are proposed.")
    noisy = _if_mined(sample, before, fit, point, request) if evidence.mined and not request.label_noise else ""
    said = replace(said, said=f"{said.said} {noisy}".strip())
    outcome = replace(outcome, noisy=noisy, advice=said, fit=fit, point=point, auc=auc, figures_before=first, figures_after=later)
    fitted = replace(fit.after, method=fit.winner, fitted_on=f"local cohort of {len(sample.labels)} images")
    return _with_candidate(outcome, fitted, point.t_high, point.t_low, len(sample.labels), int(sample.labels.sum()))


def _if_mined(sample: Sample, before: Calibration, fit: Fit, point: OperatingPoint, request: Request) -> str:
    """What would be another map if as many positive labels were false as of text-mined ones, computed on these very cases."""
    share = MINED_FALSE_POSITIVES
    other = local_fit.recalibrate(replace(sample, false_positives=share), before, request.prevalence, request.seed).after
    logits = sample.logits
    now, then = (float(one.probabilities(logits).mean()) for one in (fit.after, other))
    at = fit.after.logit_at(point.t_high)
    there = other.probability(at) if np.isfinite(at) else float("nan")
    return (
        f"If {share:.0%} of the positive labels were false (--label-noise {share:g}), the mean probability would be {then:.3f} instead of "
        f"{now:.3f}, and that of a study just raised {there:.3f} instead of {point.t_high:.3f}."
    )


def _with_candidate(outcome: Outcome, fitted: Calibration, t_high: float, t_low: float, n: int, events: int) -> Outcome:
    """The outcome with its candidate, which gets its name with the whole one."""
    made = replace(
        fitted, id="", t_high=t_high, t_low=t_low, n=n, events=events, prevalence=outcome.request.prevalence, finding=outcome.before.finding
    )
    return replace(outcome, candidate=made)
