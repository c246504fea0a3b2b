"""Pixels whose work is done may go, alarms stand until their cause is gone, every file is scrubbed in turn."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.instances import retention
from prioritizer.db.instances.retention import Deadlines
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import housekeeping
from prioritizer.db.processing.housekeeping import Alarm
from prioritizer.db.worklist import reading, rows
from prioritizer.states import DeliveryState, InstanceState
from tests.support.ledger_states import (
    LATER,
    bring_instance_to,
    pixels_are_gone,
)
from tests.support.ledgers import (
    NOW,
    deliver,
    film,
    kinds,
    publish,
    receive,
    score_next,
    scored,
)


def deletable(ledger: sa.Engine) -> list[str]:
    return retention.mark_deletable(ledger, Deadlines(LATER), LATER)


def test_pixels_of_a_read_and_delivered_study_may_go(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    deliver(ledger)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deletable(ledger) == ["1.2.3.1"]


@pytest.mark.parametrize("left", ["read", "publish", "deliver", "delivered", "score"])
def test_pixels_with_work_left_are_never_returned(ledger: sa.Engine, left: str):
    receive(ledger, film())
    if left != "score":
        score_next(ledger, 0.2)
    if left not in ("score", "publish"):
        publish(ledger)
    if left not in ("score", "publish", "deliver"):
        deliver(ledger, DeliveryState.REJECTED if left == "delivered" else DeliveryState.SENT)
    if left != "read":
        reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deletable(ledger) == []


def test_a_study_read_just_now_keeps_its_pixels(ledger: sa.Engine):
    bring_instance_to(ledger, InstanceState.FAILED)
    reading.read(ledger, "1.2.3", "Dr. A", LATER)
    assert deletable(ledger) == []


def test_where_nothing_is_published_no_result_is_waited_for(ledger: sa.Engine):
    scored(ledger)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deletable(ledger) == []
    claim = processing_deliver.claim_study(ledger, "w", timedelta(seconds=60), LATER)
    assert claim is not None
    processing_deliver.finish_published(ledger, claim, None, (), LATER)
    assert deletable(ledger) == ["1.2.3.1"]


def test_deleted_pixels_are_told_and_not_returned_again(ledger: sa.Engine):
    bring_instance_to(ledger, InstanceState.INELIGIBLE)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deletable(ledger) == ["1.2.3.1"]
    assert deletable(ledger) == []
    assert kinds(ledger)[-1] == "pixels-deleted"


def test_the_oldest_read_study_goes_first(ledger: sa.Engine):
    for number, minutes in ((1, 5), (2, 1), (3, 3)):
        receive(ledger, film(1, f"1.2.{number}"), unreadable="no header")
        reading.read(ledger, f"1.2.{number}", "Dr. A", NOW + timedelta(minutes=minutes))
    assert deletable(ledger) == ["1.2.2.1", "1.2.3.1", "1.2.1.1"]


def test_an_alarm_stands_since_its_first_moment_until_its_cause_is_gone(ledger: sa.Engine):
    def ring(*alarms: Alarm, at: datetime = NOW) -> list[tuple[str, datetime, str]]:
        housekeeping.stand(ledger, ["disk", "overdue"], alarms, at)
        return [(name, since, said) for name, since, said, _ in rows.standing_alarms(ledger)]

    assert ring(Alarm(name="disk", said="90 %", mend="free it")) == [("disk", NOW, "90 %")]
    assert ring(Alarm(name="disk", said="95 %", mend="free it"), at=LATER) == [("disk", NOW, "95 %")]
    assert ring(at=LATER) == []


def test_an_alarm_of_another_job_is_left_alone(ledger: sa.Engine):
    housekeeping.stand(ledger, ["disk"], [Alarm(name="disk", said="x", mend="y")], NOW)
    housekeeping.stand(ledger, ["overdue"], [], NOW)
    assert len(rows.standing_alarms(ledger)) == 1


def test_every_file_is_scrubbed_in_turn(ledger: sa.Engine):
    receive(ledger, *(film(number) for number in range(3)))
    pixels_are_gone(ledger, "1.2.3.1")
    seen, last = [], ""
    while found := housekeeping.digest_of(ledger, last):
        last = found[0]
        seen.append(last)
    assert seen == ["1.2.3.0", "1.2.3.2"]
