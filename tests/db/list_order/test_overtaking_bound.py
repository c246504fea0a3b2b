"""Random lives of a ledger keep the bound on the list as it is given out, on both databases.

A life is a run of arrivals, late images, scores, reads, re-openings, pins, steps of the clock, settings overrides, calibrations, bundles and
rebuilds. After each step the list is judged by an oracle of its own: STAT first, and nobody overtaken by a study that arrived later than
the window lets it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import SitePolicy
from prioritizer.db.decisions import activation, calibrations, settings_overrides
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.decisions.settings_overrides import Proposal
from prioritizer.db.processing import daemon_start as processing_start
from prioritizer.db.processing import score as processing_score
from prioritizer.db.schema import clock_steps
from prioritizer.db.schema.every_table import metadata
from prioritizer.db.worklist import reading
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.errors import PrioritizerError
from prioritizer.ranking.deadlines import Stage
from prioritizer.states import InstanceState
from prioritizer.study import Instance, study_instance_uid
from tests.support.ledgers import LEASE, NOW, film, policy_with, receive, score_of, site_policy

OWN = Calibration(id="own", method="temperature", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1, n=500, events=100)
POLICY = site_policy(t_high=0.5, t_low=0.1, bundle_digest="d" * 64, own=OWN, max_high_share=1.0)
MINUTE = timedelta(minutes=1)


@dataclass
class Life:
    """The ledger, the moment, and everything that came."""

    ledger: sa.Engine
    now: datetime = NOW
    policy: SitePolicy = POLICY
    came: list[Instance] = field(default_factory=list)
    made: int = 0

    def arrive(self, study: int, image: int) -> None:
        one = film(image, f"1.{study}", self.now, patient_id=f"P{study}")
        if any(known.sop_instance_uid == one.sop_instance_uid for known in self.came):
            return
        self.came.append(one)
        receive(self.ledger, one, policy=self.policy, now=self.now)

    def late_copy_of_earlier(self, study: int, image: int) -> None:
        """An image whose receipt is older than what is known: two routes, or a rebuild."""
        one = film(50 + image, f"1.{study}", self.now - 45 * MINUTE, patient_id=f"P{study}")
        if not any(known.sop_instance_uid == one.sop_instance_uid for known in self.came):
            self.came.append(one)
            receive(self.ledger, one, policy=self.policy, now=self.now)

    def score(self, high: bool) -> None:
        claim = processing_score.claim_instance(self.ledger, "w", LEASE)
        if claim is None:
            return
        logit = 2.0 if high else -2.0
        score = score_of(None, logit=logit, bundle_digest="d" * 64)
        processing_score.finish_scored(self.ledger, claim, score, self.policy, self.now)

    def fail(self) -> None:
        claim = processing_score.claim_instance(self.ledger, "w", LEASE)
        if claim is not None:
            processing_score.finish_unscored(self.ledger, claim, InstanceState.FAILED, "pixels", "cannot be read", self.policy, self.now)

    def read(self, study: int) -> None:
        reading.read(self.ledger, f"1.{study}", "anna", self.now)

    def reopen(self, study: int) -> None:
        reading.reopen(self.ledger, f"1.{study}", "anna", self.now)

    def pin(self, study: int, *, remove: bool) -> None:
        reading.pin(self.ledger, f"1.{study}", "anna", self.policy, self.now, remove=remove)

    def stage(self, stage: Stage) -> None:
        made = settings_overrides.propose(
            self.ledger, self.policy, Proposal(wanted={"stage": str(stage)}, reason="x", effect={}), "a", self.now
        )
        settings_overrides.activate(self.ledger, self.policy, made.id, Decision(who="a", against_advice="a test"), self.now)

    def calibrate(self, shift: float) -> None:
        self.made += 1
        made = replace(OWN, id=f"local-{self.made}", intercept=shift)
        calibrations.add(self.ledger, "d" * 64, made, CandidateVerdict(word="activate", said="", report=""), "m", self.now)
        activation.activate(self.ledger, made.id, Decision(who="a"), self.policy, self.now)

    def back(self) -> None:
        activation.roll_back(self.ledger, "a", self.policy, self.now)

    def step_clock(self, minutes: int) -> None:
        self.now += minutes * MINUTE
        clock_steps.hold_to_present(self.ledger, self.now)

    def ai_off(self) -> None:
        processing_start.rerank_open(self.ledger, policy_with(self.policy, bundle_digest="", own=None, t_high=2.0), "AI is off", self.now)

    def start(self) -> None:
        processing_start.rerank_open(self.ledger, self.policy, "prioritizer started", self.now)

    def rebuild(self) -> None:
        with self.ledger.begin() as tx:
            for table in reversed(metadata.sorted_tables):
                tx.execute(table.delete())
        for one in sorted(self.came, key=lambda known: known.received_at):
            receive(self.ledger, one, policy=self.policy, now=self.now)


studies_ = st.integers(1, 5)
STEPS: tuple[st.SearchStrategy[Callable[[Life], object]], ...] = (
    st.builds(lambda s, i: lambda life: life.arrive(s, i), studies_, st.integers(1, 3)),
    st.builds(lambda s, i: lambda life: life.late_copy_of_earlier(s, i), studies_, st.integers(1, 2)),
    st.builds(lambda high: lambda life: life.score(high), st.booleans()),
    st.builds(lambda minutes: lambda life: life.step_clock(minutes), st.sampled_from([1, 7, 40, 200, -30, -300])),
    st.builds(lambda s: lambda life: life.read(s), studies_),
    st.builds(lambda s: lambda life: life.reopen(s), studies_),
    st.builds(lambda s, r: lambda life: life.pin(s, remove=r), studies_, st.booleans()),
    st.builds(lambda stage: lambda life: life.stage(stage), st.sampled_from(list(Stage))),
    st.builds(lambda shift: lambda life: life.calibrate(shift), st.sampled_from([-4.0, 0.5, 4.0])),
    st.sampled_from([Life.back, Life.fail, Life.ai_off, Life.start, Life.rebuild]),
)


def judge(life: Life) -> None:
    """The list as it is given out: every unread study on it, STAT first, the bound kept, nothing of the future."""
    rows = worklist_rows.rows(life.ledger, now=life.now)
    with life.ledger.connect() as tx:
        unread = set(tx.scalars(sa.text("SELECT study_uid FROM studies WHERE listed AND reading_state <> 'READ' AND expired_at IS NULL")))
    assert {row.study_uid for row in rows} == unread
    assert {study_instance_uid(row.study_uid) for row in rows} <= {one.study_uid for one in life.came}
    assert [row.stat for row in rows] == sorted((row.stat for row in rows), reverse=True)
    assert all(row.first_received_at <= life.now for row in rows)
    bound = POLICY.ranking.bound
    for place, row in enumerate(rows):
        for behind in rows[place + 1 :]:
            if not row.stat:
                assert row.first_received_at <= behind.first_received_at + bound, (row, behind)
            elif behind.stat:
                assert row.first_received_at <= behind.first_received_at


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(st.one_of(*STEPS), min_size=5, max_size=30))
def test_the_list_keeps_its_bound_whatever_happens(ledger: sa.Engine, steps: list[Callable[[Life], object]]):
    with ledger.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())
    life = Life(ledger)
    for step in steps:
        try:
            step(life)
        except PrioritizerError:
            continue  # a step that this state does not allow
        judge(life)


def test_the_judge_finds_a_study_that_was_overtaken_too_far(ledger: sa.Engine):
    life = Life(ledger)
    life.arrive(1, 1)
    life.step_clock(200)
    life.arrive(2, 1)
    judge(life)
    with ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE studies SET due_at = due_at - 36000000000 WHERE study_uid = '1.2'")
    with pytest.raises(AssertionError):
        judge(life)
