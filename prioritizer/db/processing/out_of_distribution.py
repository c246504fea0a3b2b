"""Images of another population than in training: scored once what is in force allows it, unscored again once it does not.

Nothing is queued. What is in force (stage, rule of the site, a local calibration that was judged fit) and how far each image lies say
together what is owed: so an activation owes it in its very commit, a crash forgets nothing of it, and going back needs no list.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.decisions.calibrations import applying
from prioritizer.db.in_force.calibration import PolicyInForce, in_force
from prioritizer.db.list_order.order import View, in_view
from prioritizer.db.list_order.placement import replace_study
from prioritizer.db.processing.requeue import score_again
from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import LEFT_OUT, SCORED_BEYOND
from prioritizer.db.schema.tables import instances, studies
from prioritizer.states import InstanceState

A_TURN = 50
"""Images that wait at most because of it."""


def decided_by(engine: sa.Engine, policy: SitePolicy) -> tuple[object, ...]:
    """All that decides what is owed; nothing more is owed until one of them changes, or a study that was read is opened again."""
    rules = applying(engine, policy)
    return policy.bundle_digest, rules.activation, rules.leaves_out, rules.local_limit


def owed(rules: PolicyInForce) -> sa.Select[tuple[str, str]]:
    """The images, each with its study, that were left out and may be scored now: of studies on the list, their pixels still here."""
    on_the_list = (studies.c.study_uid == instances.c.study_uid) & in_view(View.OPEN)
    here = sa.text(LEFT_OUT) & instances.c.pixels_deleted_at.is_(None)
    within = (instances.c.measured_by == rules.policy.bundle_digest) & (instances.c.out_of_distribution <= rules.limit)
    return (
        sa.select(instances.c.sop_instance_uid, instances.c.study_uid)
        .join(studies, on_the_list)
        .where(here, within if rules.leaves_out else sa.true())
        .order_by(instances.c.received_at)
    )


def count_owed(tx: sa.Connection, rules: PolicyInForce) -> int:
    """How many images were left out and may be scored now."""
    return tx.scalar(sa.select(sa.func.count()).select_from(owed(rules).order_by(None).subquery())) or 0


def judge_again(engine: sa.Engine, policy: SitePolicy, now: datetime) -> bool:
    """One turn of what is owed, in order of arrival: images to be scored, or, where they may not be, unscored. True while more may be.

    Scoring them is the work of the score worker, after whatever else waits for its first time in order of arrival.
    """
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        if rules.calibration is None:
            return False
        waiting = tx.scalar(sa.select(sa.func.count()).select_from(instances).where(instances.c.state == InstanceState.RECEIVED)) or 0
        found = tx.execute(owed(rules).limit(max(A_TURN - waiting, 0))).all()
        if found:
            score_again(tx, [(row.sop_instance_uid, row.study_uid) for row in found], "prioritizer", rules, now, _why(rules), attempts=1)
        beyond = tx.scalars(_to_be_left_out(rules)).all() if rules.leaves_out else []
        for uid in sorted(set(beyond)):
            replace_study(tx, uid, rules, now)
    return bool(found or beyond) or waiting >= A_TURN


def _to_be_left_out(rules: PolicyInForce) -> sa.Select[str]:
    on_the_list = (studies.c.study_uid == instances.c.study_uid) & in_view(View.OPEN)
    beyond = (instances.c.measured_by == rules.policy.bundle_digest) & (instances.c.out_of_distribution > rules.limit)
    scored = sa.text(SCORED_BEYOND)
    return sa.select(instances.c.study_uid).join(studies, on_the_list).where(scored, beyond).order_by(instances.c.received_at).limit(A_TURN)


def _why(rules: PolicyInForce) -> str:
    """Why an image that was left out is scored now, in words."""
    if rules.leaves_out:
        assert rules.calibration is not None
        return f"to be scored: within the local limit of calibration {rules.calibration.id}"
    if rules.fit and rules.calibration is not None:
        return f"to be scored: calibration {rules.calibration.id}, made here and judged fit, is in force"
    return f"to be scored: the site's rules no longer leave it out (stage {rules.policy.ranking.stage})"
