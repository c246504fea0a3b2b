"""Where the open studies stand by the rules in force, and where they would by others or by another calibration. Read only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.config import settings_override
from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force.calibration import in_force
from prioritizer.db.list_order.order import View, in_view
from prioritizer.db.list_order.placement import high_suspended, standing_of
from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import UNREAD
from prioritizer.db.schema.tables import instances, scores, studies
from prioritizer.ranking import deadlines
from prioritizer.ranking.deadlines import Band, RankingPolicy, Standing
from prioritizer.ranking.study_risk import risk_of_logits
from prioritizer.states import InstanceState
from prioritizer.study import AIState, Probability


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPlaces:
    """The open studies, and two sets of rules with what each says of raising too much."""

    standings: list[Standing]
    before: RankingPolicy
    after: RankingPolicy
    suspended_before: bool
    suspended_after: bool
    then: list[Standing] | None = None
    """The same studies as another calibration would judge them; None where only rules differ."""

    @property
    def raised(self) -> tuple[int, int]:
        """How many of them the model raises, before and after."""
        sides = ((self.standings, self.before), (self.standings if self.then is None else self.then, self.after))
        counts = [sum(deadlines.band_of(one, rules) is Band.HIGH for one in known) for known, rules in sides]
        return counts[0], counts[1]


def open_places(engine: sa.Engine, policy: SitePolicy, changes: Mapping[str, str | float]) -> OpenPlaces:
    """The list as it is, and the rules that an override would make in the place of what is in force. Raises SettingsOverrideUnfit."""
    with connect.reading(engine) as tx:
        before = in_force(tx, policy, held=False).policy.ranking
        proposed = settings_override.over(policy.ranking, changes) if changes else policy.ranking
        after = proposed.with_thresholds_as(before)
        rows = tx.execute(sa.select(studies).where(in_view(View.OPEN))).all()
        return OpenPlaces(
            standings=[standing_of(row) for row in rows],
            before=before,
            after=after,
            suspended_before=high_suspended(tx, before),
            suspended_after=high_suspended(tx, after),
        )


def places_by(engine: sa.Engine, policy: SitePolicy, other: Calibration) -> OpenPlaces:
    """The list as it is, and as it would be with another calibration of this bundle in force: what activating it would write."""
    with connect.reading(engine) as tx:
        before = in_force(tx, policy, held=False).policy.ranking
        after = before.with_thresholds_of(other)
        names = ("study_uid", "first_received_at", "stat", "pinned_by", "ai_state", "risk", "age_years", "expired_at")
        columns = [studies.c[name] for name in names]
        rows = tx.execute(sa.select(*columns).where(sa.text(UNREAD))).all()
        unread = [standing_of(row) for row in rows]
        then = _judged_by(tx, unread, policy.bundle_digest, other)
        bands = {one.study_uid: deadlines.band_of(one, after) for one in then if one.ai_state is AIState.SCORED}
        shown = [index for index, row in enumerate(rows) if row.expired_at is None]
        return OpenPlaces(
            standings=[unread[index] for index in shown],
            then=[then[index] for index in shown],
            before=before,
            after=after,
            suspended_before=high_suspended(tx, before),
            suspended_after=high_suspended(tx, after, bands),
        )


def _judged_by(tx: sa.Connection, standings: list[Standing], bundle_digest: str, other: Calibration) -> list[Standing]:
    """The same studies with the risk that `other` makes of this bundle's logits; what another bundle scored waits to be scored again."""
    newest = (
        sa.select(instances.c.study_uid, sa.func.max(scores.c.id).label("id"))
        .join(instances, instances.c.study_uid == studies.c.study_uid)
        .join(scores, scores.c.sop_instance_uid == instances.c.sop_instance_uid)
        .where(sa.text(UNREAD), studies.c.ai_state == AIState.SCORED, instances.c.state == InstanceState.SCORED)
        .group_by(instances.c.study_uid, scores.c.sop_instance_uid)
        .subquery()
    )
    query = sa.select(newest.c.study_uid, scores.c.logit, scores.c.bundle_digest).join(scores, scores.c.id == newest.c.id)
    logits: dict[str, list[float]] = {}
    for row in tx.execute(query):
        if row.bundle_digest == bundle_digest:
            logits.setdefault(row.study_uid, []).append(row.logit)
    ages = {one.study_uid: one.age_years for one in standings}
    risks = {uid: risk for uid, its in logits.items() if (risk := risk_of_logits(other.for_age(ages.get(uid)), its)) is not None}
    found = []
    for one in standings:
        if one.ai_state is AIState.SCORED and one.study_uid in risks:
            found.append(replace(one, risk=Probability(risks[one.study_uid])))
        else:
            found.append(replace(one, risk=None, ai_state=AIState.WAITING if one.ai_state is AIState.SCORED else one.ai_state))
    return found
