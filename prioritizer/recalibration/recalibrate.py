"""`prioritizer recalibrate`: a labelled cohort to a candidate calibration in the ledger and a report that says what it is worth.

Nothing takes effect here: a person reads the report and activates the candidate, or does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from prioritizer.calibration import local_fit
from prioritizer.calibration import verdict as calibration_verdict
from prioritizer.calibration.cohort_lint import CohortFault
from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.calibration.operating_point import Wish
from prioritizer.config.policy import policy_of, rules_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.settings_in_force import in_force_for
from prioritizer.db.decisions import calibrations
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.in_force.calibration import digest_of, document_text
from prioritizer.errors import CalibrationChanged, ConfigError
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.recalibration import cohort as recalibration_cohort
from prioritizer.recalibration import effect
from prioritizer.recalibration import report as recalibration_report
from prioritizer.recalibration.cohort import Gathered
from prioritizer.recalibration.cohort_logits import Cache, Looking
from prioritizer.recalibration.fit import map_of, outcome_of
from prioritizer.recalibration.outcome import RecalibrationOutcome, RecalibrationRequest
from prioritizer.scope import out_of_distribution


def run(
    engine: sa.Engine,
    settings: Settings,
    request: RecalibrationRequest,
    now: datetime,
    *,
    tick: recalibration_cohort.Tick = lambda done, of: None,
) -> tuple[RecalibrationOutcome, Path]:
    """Cohort, lint and logits, fit and verdict, effect on the list, report, candidate; the outcome and the report's path.

    Raises ConfigError for what cannot be asked, CalibrationChanged. A cohort that carries no fit is an outcome with `refused`, and has
    its report too. `settings`: as configured; the effect on the list is that of the settings in force when the cohort was scored.
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
    recalibration_report.write(outcome, path, effect.sections(outcome, engine, in_force_for(engine, settings)))
    if outcome.entered is not None:
        verdict = CandidateVerdict(word=outcome.advice.word, said=outcome.advice.said, report=str(path))
        calibrations.add(engine, bundle.digest, outcome.entered, verdict, request.by, now)
    return outcome, path


def _possible(request: RecalibrationRequest) -> None:
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


def _ages_possible(request: RecalibrationRequest, in_force: Calibration) -> None:
    """Raises ConfigError where it is not said whose map is meant, or where there is only one."""
    if request.ages is not None and not in_force.groups:
        raise ConfigError((f"--ages {request.ages}: the calibration in force, {in_force.id}, has one map for every age; leave --ages out",))
    if in_force.groups and request.ages is None and (request.cohort is None or request.unlabelled):
        raise ConfigError(("say for whom the prevalence is: --ages children or --ages adults, which have a map each here",))


def _by_age(
    request: RecalibrationRequest, bundle: Bundle, in_force: Calibration, gathered: Gathered | None, now: datetime
) -> RecalibrationOutcome:
    """One outcome, or one for each age group that the cohort carries; together they make one candidate."""
    if not in_force.groups:
        return _of_whole([outcome_of(request, bundle, in_force, None, gathered, now)])
    groups = [request.ages] if request.ages is not None else _carried(in_force, gathered)
    return _of_whole(
        [outcome_of(request, bundle, in_force, group, _only(request, gathered, in_force, group, groups), now) for group in groups]
    )


def _carried(in_force: Calibration, gathered: Gathered | None) -> list[AgeGroup]:
    """The age groups with enough patients of each class to fit their map; the larger one where neither has."""
    assert gathered is not None
    images = {group: [i for i in gathered.analysed if in_force.group_of(i.traits.age_years) is group] for group in AgeGroup}
    enough = [
        group
        for group, its in images.items()
        if all(len({one.patient for one in its if one.label == label}) >= local_fit.MIN_CLASS for label in (0, 1))
    ]
    return enough or [max(images, key=lambda group: len(images[group]))]


def _only(
    request: RecalibrationRequest, gathered: Gathered | None, in_force: Calibration, group: AgeGroup, groups: Sequence[AgeGroup]
) -> Gathered | None:
    """The images of an age group; the others enter no figure of it, and it is said of those that enter none at all.

    Images without an age go where a study without one goes, or where the person says that the cohort belongs.
    """
    if gathered is None:
        return None
    ages = {image.file: image.traits.age_years for image in gathered.analysed}
    theirs = {file: request.ages if request.ages and age is None else in_force.group_of(age) for file, age in ages.items()}
    said = {other: f"of {other}, whose map {'is fitted by itself' if other in groups else 'stays as it is'}" for other in AgeGroup}
    others = [CohortFault(file=file, what=f"of {its}", said=said[its], excludes=True) for file, its in theirs.items() if its is not group]
    return replace(gathered, findings=(*gathered.findings, *others))


def _of_whole(outcomes: Sequence[RecalibrationOutcome]) -> RecalibrationOutcome:
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
    return _joined([replace(one, entered=entered, candidate=one.candidate and map_of(entered, one.ages)) for one in outcomes])


def _local_limit(outcomes: Sequence[RecalibrationOutcome]) -> float | None:
    """The limit of the distance from the training data that this cohort sets; None where it is too small, or was not looked at."""
    distances = [image.unlike for one in outcomes if one.gathered for image in one.gathered.analysed if image.unlike is not None]
    return out_of_distribution.local_limit(np.array(distances, dtype=np.float64))


def _joined(outcomes: Sequence[RecalibrationOutcome]) -> RecalibrationOutcome:
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


def _gathered(
    request: RecalibrationRequest, settings: Settings, bundle: Bundle, folder: Path, tick: recalibration_cohort.Tick
) -> Gathered | None:
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
