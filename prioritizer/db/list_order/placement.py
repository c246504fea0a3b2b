"""A study's risk, AI state and place, recomputed from its instances inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.config.policy import QuietTime
from prioritizer.db.in_force.calibration import PolicyInForce
from prioritizer.db.processing.result_revisions import bump_revision, retract_unsent
from prioritizer.db.schema.columns import SCORED_BEYOND
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import OWN_OBJECT
from prioritizer.db.schema.tables import instances, scores, studies
from prioritizer.ranking import deadlines
from prioritizer.ranking.deadlines import Band, RankingPolicy, Standing
from prioritizer.ranking.study_risk import MADE_BY, study_risk
from prioritizer.scope.guard_rules import UNLIKE, check_population
from prioritizer.scope.out_of_distribution import Figures
from prioritizer.states import InstanceState, ReadingState
from prioritizer.study import AIState

STALE = "stale-model"
"""The reason of an instance that another bundle scored: its probability means nothing beside this bundle's thresholds."""


def standing_of(row: sa.Row[tuple[object, ...]]) -> Standing:
    """What ranking needs of a row of `studies`."""
    m = row._mapping
    return Standing(
        study_uid=m["study_uid"],
        first_received_at=m["first_received_at"],
        stat=m["stat"] or m["pinned_by"] is not None,
        ai_state=AIState(m["ai_state"]),
        risk=m["risk"],
        age_years=m["age_years"],
    )


AT_ONCE = QuietTime(quiet=timedelta(0), ceiling=timedelta(0))
"""Where nothing more is awaited before the next result is built."""


def high_suspended(tx: sa.Connection, policy: RankingPolicy, new_bands: Mapping[str, Band] | None = None) -> bool:
    """True when the share of HIGH among the last N scored studies is over the site's limit; `new_bands`: those they are about to get."""
    recent = tx.execute(
        sa.select(studies.c.study_uid, studies.c.band)
        .where(studies.c.ai_state == AIState.SCORED)
        .order_by(studies.c.first_received_at.desc())
        .limit(policy.last_n)
    )
    return deadlines.high_is_suspended([(new_bands or {}).get(row.study_uid, Band(row.band)) for row in recent], policy)


def lock_study(tx: sa.Connection, study_uid: str) -> sa.Row[tuple[object, ...]]:
    """The study's row, held until the commit: two instances of one study finished at once would each overlook the other."""
    return tx.execute(sa.select(studies).where(studies.c.study_uid == study_uid).with_for_update()).one()


def latest_scores(tx: sa.Connection, study_uid: str) -> list[sa.Row[Any]]:
    """The newest score of every scored instance of the study, the deciding one first."""
    newest = (
        sa.select(sa.func.max(scores.c.id))
        .join(instances, instances.c.sop_instance_uid == scores.c.sop_instance_uid)
        .where(instances.c.study_uid == study_uid, instances.c.state == InstanceState.SCORED)
        .group_by(scores.c.sop_instance_uid)
    )
    # A calibration may tie probabilities; the logit then decides, so that changing the calibration changes no deciding image.
    order = (scores.c.probability.desc(), scores.c.logit.desc(), scores.c.sop_instance_uid.desc())
    return list(tx.execute(sa.select(scores).where(scores.c.id.in_(newest)).order_by(*order)))


def _score_again(tx: sa.Connection, study: sa.Row[Any], scored: list[sa.Row[Any]], rules: PolicyInForce, now: datetime) -> bool:
    """Scores of this bundle made with an earlier calibration, or by the map of another age, get a row from their stored logit.

    `scored` are the latest scores of the study. True when there were any such.
    """
    study_uid = study.study_uid
    found = [row for row in scored if row.bundle_digest == rules.policy.bundle_digest]
    calibration = rules.calibration.for_age(study.age_years) if rules.calibration is not None else None
    stale = [row for row in found if calibration and (row.calibration_id, row.activation) != (calibration.id, rules.activation)]
    for row in stale:
        assert calibration is not None
        again = {key: value for key, value in row._mapping.items() if key != "id"} | {
            "calibration_id": calibration.id,
            "activation": rules.activation,
            "probability": calibration.probability(row.logit),
            "warnings": _warnings(tx, row, rules),
            "scored_at": now,
        }
        tx.execute(scores.insert().values(**again))
    if stale and calibration is not None:
        said = f"calibration {stale[0].calibration_id} -> {calibration.id} (activation {rules.activation}), from the stored logits"
        record(tx, Kind.RECALIBRATED, said, now, study=study_uid, before=stale[0].probability)
    return bool(stale)


def _warnings(tx: sa.Connection, row: sa.Row[Any], rules: PolicyInForce) -> list[str]:
    """The warnings of a score, the one about the distance of its image by the limit that is in force now."""
    kept = [said for said in row.warnings if UNLIKE not in said]
    distance = tx.scalar(
        sa.select(instances.c.out_of_distribution).where(
            instances.c.sop_instance_uid == row.sop_instance_uid, instances.c.measured_by == rules.policy.bundle_digest
        )
    )
    if distance is None:
        return list(row.warnings)
    finding = check_population(Figures(out_of_distribution=distance), rules.local_limit)
    return [*kept, finding.sentence] if finding is not None and rules.warns else kept


def take_back_stale(tx: sa.Connection, study: sa.Row[Any], scored: list[sa.Row[Any]], rules: PolicyInForce, now: datetime) -> int:
    """Images of an unread study that another bundle scored wait to be scored by this one; returns how many.

    `scored` are the latest scores of the study. Until then the study stands in order of arrival. Without a model, or with one that
    cannot be trusted, scores stand as they were made.
    """
    if rules.calibration is None or study.reading_state == ReadingState.READ:
        return 0
    stale = [row for row in scored if row.bundle_digest != rules.policy.bundle_digest]
    for row in stale:
        image = instances.c.sop_instance_uid == row.sop_instance_uid
        kept = tx.scalar(sa.select(instances.c.pixels_deleted_at.is_(None)).where(image))
        state = InstanceState.RECEIVED if kept else InstanceState.INELIGIBLE
        text = f"stale model, scored by bundle {row.bundle_digest[:12]}" + ("" if kept else " and its pixels are gone: send it again")
        values = {"state": state, "reason": STALE, "reason_text": text, "attempts": 0, "not_before": None}
        tx.execute(instances.update().where(image).values(**values))
        said = f"{text}; to be scored by bundle {rules.policy.bundle_digest[:12]}" if kept else text
        record(tx, Kind.REQUEUED, said, now, study=study.study_uid, instance=row.sop_instance_uid)
    return len(stale)


def leave_out(tx: sa.Connection, study: sa.Row[Any], rules: PolicyInForce, now: datetime) -> int:
    """Scored images of an unread study that lie beyond the limit in force are unscored again, where the site's rule says so; how many.

    They were scored in stage shadow, or while a calibration was in force that was judged fit. What was not sent of them is retracted.
    """
    if rules.calibration is None or not rules.leaves_out or study.reading_state == ReadingState.READ:
        return 0
    mine = (instances.c.study_uid == study.study_uid) & sa.text(SCORED_BEYOND)
    beyond = (instances.c.measured_by == rules.policy.bundle_digest) & (instances.c.out_of_distribution > rules.limit)
    found = tx.execute(sa.select(instances.c.sop_instance_uid, instances.c.out_of_distribution).where(mine, beyond)).all()
    for row in found:
        finding = check_population(Figures(out_of_distribution=row.out_of_distribution), rules.local_limit)
        assert finding is not None
        values = {"state": InstanceState.INELIGIBLE, "reason": finding.rule, "reason_text": finding.sentence}
        tx.execute(instances.update().where(instances.c.sop_instance_uid == row.sop_instance_uid).values(**values))
        said = f"no longer scored: {finding.sentence}; {why_left_out(rules)}"
        record(tx, Kind.INELIGIBLE, said, now, study=study.study_uid, instance=row.sop_instance_uid, rule=finding.rule)
    if found:
        retract_unsent(tx, study.study_uid, now, why="an image of the study was left unscored")
    return len(found)


def why_left_out(rules: PolicyInForce) -> str:
    """Why an image beyond the limit is left unscored now, in words."""
    if not rules.holds_back:
        return "scope.out_of_distribution leaves such images unscored"
    return f"no local calibration that was judged fit is in force in stage {rules.policy.ranking.stage}"


def _ai_reason(tx: sa.Connection, study_uid: str, state: AIState) -> str:
    """Why the study has no probability, or what of it could not be scored."""
    unscored = [InstanceState.FAILED, InstanceState.INELIGIBLE]
    wanted = {AIState.SCORED: [InstanceState.FAILED], AIState.WAITING: [InstanceState.RECEIVED]}.get(state, unscored)
    rows = tx.execute(
        sa.select(instances.c.reason_text, instances.c.state)
        .where(instances.c.study_uid == study_uid, instances.c.state.in_(wanted), instances.c.reason != OWN_OBJECT)
        .order_by(instances.c.received_at)
    ).all()
    failed_first = sorted(rows, key=lambda row: row.state != InstanceState.FAILED)
    return "; ".join(dict.fromkeys(row.reason_text for row in failed_first if row.reason_text))[:500]


def replace_study(tx: sa.Connection, study_uid: str, rules: PolicyInForce, now: datetime) -> None:
    """Recompute scores, AI state, risk and place of a study, and say so in an event when its place changed."""
    recompute_risk(tx, study_uid, rules, now)
    put_in_place(tx, study_uid, rules.policy.ranking, now)


def recompute_risk(tx: sa.Connection, study_uid: str, rules: PolicyInForce, now: datetime) -> None:
    """Recompute scores, AI state and risk of a study; its place is left to the caller."""
    study = lock_study(tx, study_uid)
    found = latest_scores(tx, study_uid)
    taken, left = take_back_stale(tx, study, found, rules, now), leave_out(tx, study, rules, now)
    if taken or left:
        found = latest_scores(tx, study_uid)
    if left and found:  # what was retracted, or is at the PACS already, showed the study with the image that is left out now
        bump_revision(tx, study_uid, AT_ONCE, now)
    if _score_again(tx, study, found, rules, now):
        found = latest_scores(tx, study_uid)
    counts = dict.fromkeys(InstanceState, 0)
    for state, count in tx.execute(
        sa.select(instances.c.state, sa.func.count()).where(instances.c.study_uid == study_uid).group_by(instances.c.state)
    ):
        counts[InstanceState(state)] = count
    risk = study_risk([row.probability for row in found])
    decider = found[0].sop_instance_uid if found else None
    ai_state = deadlines.study_ai_state(
        counts[InstanceState.RECEIVED], len(found), counts[InstanceState.FAILED], counts[InstanceState.INELIGIBLE]
    )
    tx.execute(
        studies.update()
        .where(studies.c.study_uid == study_uid)
        .values(ai_state=ai_state, ai_reason=_ai_reason(tx, study_uid, ai_state), risk=risk, deciding_instance=decider)
    )


def put_in_place(tx: sa.Connection, study_uid: str, policy: RankingPolicy, now: datetime, *, suspended: bool | None = None) -> bool:
    """Give the study the band and deadline of its standing; True when it stands elsewhere.

    A band that moves nothing, as in stages shadow and pilot, is no event: whoever reads the history would learn what AI thinks.
    """
    row = lock_study(tx, study_uid)
    standing = standing_of(row)
    if suspended is None:
        suspended = deadlines.band_of(standing, policy) is Band.HIGH and high_suspended(tx, policy)
    place = deadlines.place(standing, policy, high_suspended=suspended)
    if (row.band, row.due_at, row.place_reason) == (place.band, place.due_at, place.reason):
        return False
    tx.execute(
        studies.update()
        .where(studies.c.study_uid == study_uid)
        .values(
            band=place.band,
            due_at=place.due_at,
            place_reason=place.reason,
            overdue_at=row.overdue_at if place.due_at == row.due_at else None,
        )
    )
    if (row.due_at, row.place_reason) == (place.due_at, place.reason):
        return False
    overtaken = _overtaken(tx, standing, place.due_at)
    said = place.reason + (f"; stands before {overtaken} that arrived earlier" if overtaken else "")
    record(
        tx,
        Kind.PLACED,
        said,
        now,
        study=study_uid,
        band=place.band,
        due_at=place.due_at.isoformat(),
        before=row.due_at.isoformat(),
        overtaken=overtaken,
        risk_by=MADE_BY,
    )
    return bool(row.due_at != place.due_at)


def _overtaken(tx: sa.Connection, standing: Standing, due_at: datetime) -> int:
    """How many unread studies that arrived earlier stand behind a study with this deadline."""
    behind = sa.true() if standing.stat else studies.c.due_at > due_at
    count = tx.scalar(
        sa.select(sa.func.count())
        .select_from(studies)
        .where(
            studies.c.listed,
            studies.c.reading_state != ReadingState.READ,
            ~studies.c.stat,
            studies.c.first_received_at < standing.first_received_at,
            behind,
        )
    )
    return count or 0
