"""A lost ledger is rebuilt from the spool: by receipts, the earliest arrival wins, and nothing of before is sent unasked."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.daemon import receive as daemon_receive
from prioritizer.daemon.identity_confirmation import settle
from prioritizer.db.instances import rebuilding
from prioritizer.db.processing import deliver
from prioritizer.db.schema.columns import metadata
from prioritizer.db.schema.tables import instances
from prioritizer.db.worklist import rows
from prioritizer.errors import Transient
from tests.support.ledgers import LEASE, POLICY, score_next
from tests.support.phantom_spool import Box, phantom

BEGAN = datetime.now(UTC) - timedelta(hours=5)


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    box = Box(ledger, tmp_path)
    images = [(number, image) for number in range(1, 6) for image in (1, 2, 3)]
    random.Random(7).shuffle(images)
    for number, image in images:
        late = timedelta(minutes=240) if image == 3 else timedelta(0)
        box.stored(phantom(number, image), BEGAN + timedelta(minutes=number) + late)
    box.receive()
    return box


def lose(ledger: sa.Engine) -> None:
    with ledger.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())


def arrivals(box: Box) -> dict[str, datetime]:
    return {row.study_uid: row.first_received_at for row in box.rows()}


def test_every_study_has_the_arrival_that_it_had(box: Box):
    before, order = arrivals(box), [row.study_uid for row in box.rows()]
    lose(box.ledger)
    box.chores().reconcile()
    assert arrivals(box) == before
    assert [row.study_uid for row in box.rows()] == order


def test_images_in_any_order_give_the_earliest_arrival(box: Box):
    assert arrivals(box) == {str(phantom(n).StudyInstanceUID): BEGAN + timedelta(minutes=n) for n in range(1, 6)}


def test_one_bad_file_skips_one_file(box: Box):
    bad = box.spool.object_path(str(phantom(1).SOPInstanceUID))
    bad.write_bytes(b"nothing of a receipt")
    lose(box.ledger)
    box.chores().reconcile()
    assert len(box.rows()) == 5
    assert not bad.exists()
    assert [facts["reason"].split(":")[0] for _, facts in box.spool.quarantined()] == ["a held file without a receipt"]
    box.stored(phantom(1))
    box.receive()
    assert len(box.rows()) == 5, "and sent again it is one of them"


def test_a_file_that_the_disk_does_not_give_is_tried_again(box: Box, monkeypatch: pytest.MonkeyPatch):
    lose(box.ledger)
    genuine, away = daemon_receive.read_receipt, box.spool.object_path(str(phantom(1).SOPInstanceUID))

    def read(path: Path):
        if path == away:
            raise OSError(5, "EIO")
        return genuine(path)

    monkeypatch.setattr(daemon_receive, "read_receipt", read)
    chores = box.chores()
    chores.reconcile()
    for _ in range(3):
        chores.reconcile()
        chores.alarms()
        assert "unlisted" in {name for name, *_ in rows.standing_alarms(box.ledger)}, "also while it waits for its turn"
    entered = sum(row.instances for row in box.rows())
    monkeypatch.undo()
    chores.reconcile()
    assert sum(row.instances for row in box.rows()) == entered, "not before its time: the whole ledger is read for it"
    chores._reconcile_at = 0.0
    chores.reconcile()
    assert sum(row.instances for row in box.rows()) == entered + 1
    chores.alarms()
    assert "unlisted" not in {name for name, *_ in rows.standing_alarms(box.ledger)}


def test_a_rebuild_that_goes_on_is_not_put_off_by_a_database_that_did_not_answer(box: Box, monkeypatch: pytest.MonkeyPatch):
    lose(box.ledger)
    genuine, calls = daemon_receive.receive.receive, iter(range(999))

    def receive(*rest: object, **more: object) -> int:
        if next(calls) % 2:
            raise Transient("the database does not answer")
        return genuine(*rest, **more)

    monkeypatch.setattr(daemon_receive.receive, "receive", receive)
    chores = box.chores()
    for _ in range(15):
        with suppress(Transient):
            chores.reconcile()
    assert sum(row.instances for row in box.rows()) == 15, "each turn goes on from where the last one ended, without a wait"


def test_a_rebuild_that_enters_some_is_tried_again_soon(box: Box, monkeypatch: pytest.MonkeyPatch):
    chores = box.chores()
    genuine, left = daemon_receive.read_receipt, [str(phantom(n, image).SOPInstanceUID) for n in (1, 2) for image in (1, 2, 3)]
    lose(box.ledger)

    def read(path: Path) -> object:
        if path.stem in left:
            raise OSError(5, "EIO")
        return genuine(path)

    monkeypatch.setattr(daemon_receive, "read_receipt", read)
    waits = []
    for _ in range(3):
        chores._reconcile_at = 0.0
        chores.reconcile()
        waits.append(chores._reconcile_wait)
    left.pop()
    chores._reconcile_at = 0.0
    chores.reconcile()
    assert (waits, chores._reconcile_wait) == ([30.0, 60.0, 120.0], 30.0)


def test_what_the_ledger_cannot_store_is_listed_bare_with_its_reason(box: Box, monkeypatch: pytest.MonkeyPatch):
    lose(box.ledger)
    genuine, odd = daemon_receive.receive.receive, phantom(2).PatientID
    kinds_of_fault = [sa.exc.DataError("INSERT", {}, ValueError("a value that does not fit")), OverflowError("a number too large")]

    def receive(engine: sa.Engine, arrivals: list[daemon_receive.Arrival], *rest: object, **more: object) -> int:
        if any(one.instance.patient_id == odd for one in arrivals):
            raise kinds_of_fault[arrivals[0].instance.received_at.minute % 2]
        return genuine(engine, arrivals, *rest, **more)

    monkeypatch.setattr(daemon_receive.receive, "receive", receive)
    box.chores().reconcile()
    assert sum(row.instances for row in box.rows()) == 15
    assert [row.ai_reason for row in box.rows() if row.ai_state == "FAILED"] == [daemon_receive.NOT_STORED] * 3


def test_a_database_that_does_not_answer_ends_a_rebuild_and_lists_nothing_bare(box: Box, monkeypatch: pytest.MonkeyPatch):
    lose(box.ledger)

    def down(*_: object, **__: object) -> int:
        raise Transient("the database cannot be used now")

    monkeypatch.setattr(daemon_receive.receive, "receive", down)
    chores = box.chores()
    with pytest.raises(Transient):
        chores.reconcile()
    monkeypatch.undo()
    chores._reconcile_at = 0.0
    chores.reconcile()
    assert {row.ai_state for row in box.rows()} == {"WAITING"}


def test_an_image_that_is_sent_again_is_listed_where_the_disk_does_not_give_the_settled_one(box: Box):
    lost = box.spool.object_path(str(phantom(1).SOPInstanceUID))
    lost.unlink()
    lost.symlink_to("/proc/self/mem")  # it opens, and reading it is a fault of the disk
    lose(box.ledger)
    chores = box.chores()
    chores.reconcile()
    assert (sum(row.instances for row in box.rows()), chores._unlisted) == (14, 1)
    box.stored(phantom(1))
    box.receive()
    assert sum(row.instances for row in box.rows()) == 15
    assert not lost.is_symlink()


def test_where_nothing_of_before_is_sent_a_study_is_asked_about_again_once_it_is_scored(box: Box):
    lose(box.ledger)
    box.chores().reconcile()
    assert rebuilding.decide(box.ledger, publish=False, who="op", now=utc_now()) == 0
    for _ in range(15):
        score_next(box.ledger, 0.4)
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(hours=1)) is None
    assert rebuilding.decide(box.ledger, publish=False, who="op", now=utc_now()) == 5
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(hours=1)) is None


def test_nothing_of_before_is_published_until_somebody_says_so(box: Box):
    lose(box.ledger)
    box.chores().reconcile()
    for _ in range(15):
        score_next(box.ledger, 0.4)
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(hours=1)) is None
    assert rows.held_after_rebuild(box.ledger) == 5


@pytest.mark.parametrize("publish", [True, False])
def test_the_word_holds_for_every_study(box: Box, publish: bool):
    lose(box.ledger)
    box.chores().reconcile()
    for _ in range(15):
        score_next(box.ledger, 0.4)
    assert rebuilding.decide(box.ledger, publish=publish, who="anna", now=utc_now()) == 5
    claimed = deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(hours=1))
    assert (claimed is not None) is publish
    assert rows.held_after_rebuild(box.ledger) == 0


def test_what_comes_after_the_rebuild_is_published(box: Box):
    lose(box.ledger)
    box.chores().reconcile()
    box.stored(phantom(9))
    box.receive()
    for _ in range(16):
        score_next(box.ledger, 0.4)
    claimed = deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(hours=1))
    assert claimed is not None
    assert claimed.study_uid == phantom(9).StudyInstanceUID


def test_the_result_of_an_image_that_came_after_a_rebuild_is_sent_unasked(box: Box):
    lose(box.ledger)
    box.chores().reconcile()
    for _ in range(15):
        score_next(box.ledger, 0.1)
    box.stored(phantom(1, 4))
    box.receive()
    score_next(box.ledger, 0.95)
    assert rebuilding.decide(box.ledger, publish=False, who="op", now=utc_now()) == 4
    claim = deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(hours=1))
    assert claim is not None
    assert claim.study_uid == str(phantom(1).StudyInstanceUID)


def test_a_report_that_came_after_a_rebuild_asks_for_no_result(box: Box):
    lose(box.ledger)
    box.chores().reconcile()
    box.stored(phantom(1, 4, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"))
    box.receive()
    assert rows.held_after_rebuild(box.ledger) == 5


def receipts(box: Box) -> list[tuple[str, datetime]]:
    columns = (instances.c.sop_instance_uid, instances.c.receipt_at)
    with box.ledger.begin() as tx:
        return [(uid, at) for uid, at in tx.execute(sa.select(*columns).order_by(instances.c.sop_instance_uid))]


def heals(box: Box) -> None:
    box.spool.object_path(str(phantom(1).SOPInstanceUID)).unlink()
    box.stored(phantom(1), BEGAN + timedelta(hours=4))
    box.receive()


def is_corrected(box: Box) -> None:
    """An image's patient is corrected by a copy that a person confirms, twice: the time of the first is kept through both."""
    for name in ("Right^Person", "Still^Another"):
        box.stored(phantom(1, PatientName=name), BEGAN + timedelta(hours=4))
        box.receive()
        study = str(phantom(1).StudyInstanceUID)
        settle(box.ledger, box.spool, study, take=True, who="op", policy=POLICY)


def is_described_otherwise(box: Box) -> None:
    box.stored(phantom(1, StudyDescription="Chest, erect"), BEGAN + timedelta(hours=4))
    box.receive(same_pixels=lambda one, other: True)


@pytest.mark.parametrize("again", [heals, is_corrected, is_described_otherwise])
def test_an_image_whose_file_was_replaced_has_the_arrival_of_the_first(box: Box, again: Callable[[Box], None]):
    again(box)
    before, dated = arrivals(box), receipts(box)
    assert before[str(phantom(1).StudyInstanceUID)] == BEGAN + timedelta(minutes=1)
    lose(box.ledger)
    box.chores().reconcile()
    assert (arrivals(box), receipts(box)) == (before, dated)


def test_a_time_beside_a_file_that_cannot_be_read_leaves_that_of_the_receipt(box: Box):
    heals(box)
    held = box.spool.object_path(str(phantom(1).SOPInstanceUID))
    for damaged in (b"", b"no time", b"2020-01-01T00:00:00", b"\xff"):
        held.with_suffix(".first").write_bytes(damaged)
        assert box.spool.came_first(held) == BEGAN + timedelta(hours=4)


def test_retention_takes_the_time_beside_a_file_with_it(box: Box):
    heals(box)
    uid = str(phantom(1).SOPInstanceUID)
    assert box.spool.remove(uid)
    assert list(box.spool.object_path(uid).parent.glob(f"{uid}*")) == []
