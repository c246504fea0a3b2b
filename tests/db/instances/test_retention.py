"""Retention deletes by state, marks before it unlinks, and in stage shadow has a rule of its own."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from prioritizer.clock import utc_now
from prioritizer.config.sections import Site
from prioritizer.config.settings import Settings
from prioritizer.db.instances import differing_copies, retention
from prioritizer.db.instances.retention import Deadlines
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import score
from prioritizer.db.schema.tables import studies
from prioritizer.db.worklist import deadlines, reading
from prioritizer.ranking.deadlines import Stage
from prioritizer.states import DeliveryState
from tests.support.ledgers import LEASE, POLICY, deliver, film, policy_with, publish, receive, score_of, scored
from tests.support.phantom_spool import Box, Well, phantom

YEAR = timedelta(days=365)
NOW = utc_now()


def long_ago(ledger: sa.Engine, folder: Path, stage: Stage) -> Box:
    """Three scored studies of a year ago that nobody read here, nothing left to send."""
    box = Box(ledger, folder, Settings(site=Site(stage=stage)))
    for number in (1, 2, 3):
        box.stored(phantom(number), NOW - YEAR)
    box.receive()
    policy = policy_with(POLICY, stage=stage)
    while (claim := score.claim_instance(ledger, "w", LEASE)) is not None:
        score.finish_scored(ledger, claim, score_of(0.3), policy, NOW - YEAR)
    while (study := processing_deliver.claim_study(ledger, "p", LEASE, NOW)) is not None:
        processing_deliver.finish_published(ledger, study, None, (), NOW)
    deadlines.expire(ledger, NOW - timedelta(hours=48), NOW)
    return box


@pytest.mark.parametrize(("stage", "left"), [(Stage.SHADOW, 0), (Stage.PILOT, 3), (Stage.ACTIVE, 3)])
def test_only_in_shadow_do_unread_studies_leave_the_spool(ledger: sa.Engine, tmp_path: Path, stage: Stage, left: int):
    box = long_ago(ledger, tmp_path, stage)
    policy = policy_with(POLICY, stage=stage)
    from prioritizer.daemon.scheduled_jobs import ScheduledJobs

    ScheduledJobs(ledger, box.spool, lambda: box.settings, Well(), lambda: policy).retention()
    assert sum(1 for _ in box.spool.held()) == left


def test_an_image_that_opens_the_study_again_is_not_deleted_by_an_older_question(ledger: sa.Engine):
    scored(ledger, at=NOW - YEAR)
    publish(ledger)
    deliver(ledger)
    reading.read(ledger, "1.2.3", "anna", NOW - YEAR)
    receive(ledger, film(2, at=NOW))
    assert retention.mark_deletable(ledger, Deadlines(NOW - timedelta(days=14)), NOW) == []


@pytest.mark.parametrize(("state", "deleted"), [(DeliveryState.SENT, 1), (DeliveryState.REJECTED, 0), (None, 0)])
def test_nothing_undelivered_is_deleted(ledger: sa.Engine, state: DeliveryState | None, deleted: int):
    scored(ledger, at=NOW - YEAR)
    publish(ledger)
    if state is not None:
        deliver(ledger, state)
    reading.read(ledger, "1.2.3", "anna", NOW - YEAR)
    assert len(retention.mark_deletable(ledger, Deadlines(NOW - timedelta(days=14)), NOW)) == deleted


def test_a_file_that_was_marked_when_a_crash_came_is_unlinked_at_the_next_start(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    box.stored(phantom(1))
    box.receive()
    with ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE instances SET pixels_deleted_at = 1")
    box.chores().reconcile()
    assert list(box.spool.held()) == []


def other_pixels() -> Dataset:
    other = phantom(1)
    other.PixelData = bytes(reversed(other.PixelData))
    return other


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_that_came_again_after_it_was_marked_is_not_unlinked(
    ledger: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
):
    box = long_ago(ledger, tmp_path, Stage.ACTIVE)
    study, uid = str(phantom(1).StudyInstanceUID), str(phantom(1).SOPInstanceUID)
    reading.read(ledger, study, "anna", NOW - YEAR)
    genuine = retention.mark_deletable
    if damaged:
        box.spool.object_path(uid).write_bytes(box.spool.object_path(uid).read_bytes()[:-7])

    def mark(*rest: Any) -> list[str]:
        marked = genuine(*rest)
        box.stored(other_pixels() if damaged else phantom(1, ViewPosition="LL"))
        box.receive()
        return marked

    monkeypatch.setattr(retention, "mark_deletable", mark)
    box.chores().retention()
    assert box.spool.find(uid) is not None


def test_nothing_is_deleted_of_a_study_while_a_confirmed_copy_is_being_put_in_its_place(ledger: sa.Engine, tmp_path: Path):
    box = long_ago(ledger, tmp_path, Stage.ACTIVE)
    study = str(phantom(1).StudyInstanceUID)
    reading.read(ledger, study, "anna", NOW - YEAR)
    box.stored(other_pixels())
    box.receive(same_pixels=lambda one, other: False)
    differing_copies.begin_taking(ledger, study, [one.file for one in differing_copies.waiting(ledger)], "anna", NOW)
    with ledger.begin() as tx:
        tx.execute(studies.update().values(held=""))
    assert retention.mark_deletable(ledger, Deadlines(NOW - timedelta(days=14)), NOW) == []


def test_result_bytes_leave_the_database_long_after_they_were_sent_and_come_back(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    later = NOW + YEAR
    assert retention.delete_result_bytes(ledger, later, later) == 0
    deliver(ledger)
    assert retention.delete_result_bytes(ledger, later, later) == 1
    scored(ledger, "1.2.4")
    receive(ledger, film(2))
    with ledger.connect() as tx:
        assert tx.scalar(sa.text("SELECT data FROM results")) == b""
    with ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE studies SET published_revision = 0, revision = 1, not_before = NULL, claimed_by = NULL")
    claim = processing_deliver.claim_study(ledger, "p", LEASE, later)
    assert claim is not None
    from tests.support.ledgers import result_of

    processing_deliver.finish_published(ledger, claim, result_of(), ("pacs",), later)
    with ledger.connect() as tx:
        assert bytes(tx.scalar(sa.text("SELECT data FROM results"))) == b"2.25.1"


def test_the_growth_is_what_came_less_what_went(ledger: sa.Engine):
    for number in range(1, 8):
        receive(ledger, film(1, f"1.2.{number}", NOW - timedelta(days=number - 1), size=7_000), now=NOW)
    assert retention.growth(ledger, NOW) == pytest.approx(7_000, rel=0.01)
    with ledger.begin() as tx:
        moment = int((NOW - timedelta(hours=1)).timestamp() * 1e6)
        tx.exec_driver_sql(f"UPDATE instances SET pixels_deleted_at = {moment}")
    assert retention.growth(ledger, NOW) < 0
