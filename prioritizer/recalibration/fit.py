"""From labelled logits to the outcome of one age group: method, map, thresholds, verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime

import numpy as np

from prioritizer.calibration import local_fit
from prioritizer.calibration import verdict as calibration_verdict
from prioritizer.calibration.local_fit import MINED_FALSE_POSITIVES, Fit, Sample
from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.calibration.operating_point import OperatingPoint, by_flags, kept, operating_point, probability_at
from prioritizer.calibration.verdict import NOT, SENSITIVITY_FLOOR, Evidence
from prioritizer.errors import CohortUnfit
from prioritizer.inference.bundle import Bundle
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED
from prioritizer.recalibration.assessment import assess
from prioritizer.recalibration.cohort import Gathered
from prioritizer.recalibration.outcome import CROSS_FITTED, RecalibrationOutcome, RecalibrationRequest
from prioritizer.statistics.intervals import Cases
from prioritizer.statistics.logistic import sigmoid
from prioritizer.statistics.measures import figures, roc_auc_figure


def map_of(calibration: Calibration, ages: AgeGroup | None) -> Calibration:
    """The map of one age group of a calibration; the whole of it where there is one for every age."""
    return calibration if ages is None else calibration.of_group(ages)


def outcome_of(
    request: RecalibrationRequest, bundle: Bundle, in_force: Calibration, ages: AgeGroup | None, gathered: Gathered | None, now: datetime
) -> RecalibrationOutcome:
    """The outcome of one age group, or of all: from what was gathered to a candidate. Raises what the fit raises."""
    outcome = RecalibrationOutcome(
        request=request,
        bundle=bundle,
        in_force=in_force,
        before=map_of(in_force, ages),
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


def _shifted(outcome: RecalibrationOutcome) -> RecalibrationOutcome:
    """Without labels: the map before, moved to a stated prevalence."""
    request, before, gathered = outcome.request, outcome.before, outcome.gathered
    assert request.prevalence is not None
    if gathered is None:
        after = local_fit.shifted_from_its_own(before, request.prevalence)
        t_high, t_low = kept(before, after)
        return _with_candidate(outcome, replace(after, fitted_on="no images: the difference of two prevalences"), t_high, t_low, 0, 0)
    sample = gathered.sample
    if len(sample.logits) < 2 * local_fit.MIN_CLASS:
        raise CohortUnfit((f"{len(sample.logits)} images, {2 * local_fit.MIN_CLASS} are needed for a shift",))
    after = local_fit.shifted_to(sample.logits, before, request.prevalence)
    t_high, t_low = kept(before, after)
    if request.wish.share is not None:
        t_high = probability_at(after, by_flags(sample.logits, sample.labels * 0 + 1, request.wish.share))
    return _with_candidate(outcome, replace(after, fitted_on="images without labels"), t_high, min(t_low, t_high), len(sample.logits), 0)


def _fitted(outcome: RecalibrationOutcome) -> RecalibrationOutcome:
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
    outcome = _with_candidate(outcome, fitted, point.t_high, point.t_low, len(sample.labels), int(sample.labels.sum()))
    assert outcome.candidate is not None
    traits = [image.traits for image in gathered.analysed]
    found = assess(sample, fit, point, before, outcome.candidate, traits, prevalence=request.prevalence, seed=request.seed)
    return replace(outcome, assessment=found)


def _if_mined(sample: Sample, before: Calibration, fit: Fit, point: OperatingPoint, request: RecalibrationRequest) -> str:
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


def _with_candidate(
    outcome: RecalibrationOutcome, fitted: Calibration, t_high: float, t_low: float, n: int, events: int
) -> RecalibrationOutcome:
    """The outcome with its candidate, which gets its name with the whole one."""
    made = replace(
        fitted, id="", t_high=t_high, t_low=t_low, n=n, events=events, prevalence=outcome.request.prevalence, finding=outcome.before.finding
    )
    return replace(outcome, candidate=made)
