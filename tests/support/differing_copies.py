"""Copies of an image that name another patient, and a person who settles which of them is right, or dies while doing so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.daemon import confirmed_copies, identity_confirmation
from prioritizer.daemon.receive import ReceiveWorker
from prioritizer.db.instances import taking_copies
from prioritizer.db.schema.columns import metadata
from prioritizer.db.schema.tables import differing_copies
from tests.support.ledgers import POLICY
from tests.support.phantom_spool import Box, phantom

UID, STUDY = str(phantom(1).SOPInstanceUID), str(phantom(1).StudyInstanceUID)
RIGHT = {"PatientID": "RIGHT-2", "PatientName": "Right^Person"}
THIRD = {"PatientID": "THIRD-3", "PatientName": "Third^Person"}
IN_A_MINUTE = timedelta(seconds=60)


def settle(box: Box, *, take: bool, study: str = STUDY, shown: str = "") -> str:
    return identity_confirmation.settle(box.ledger, box.spool, study, take=take, who="anna", policy=POLICY, shown=shown)


def states(box: Box) -> list[str]:
    with box.ledger.begin() as tx:
        return list(tx.scalars(sa.select(differing_copies.c.state).order_by(differing_copies.c.entry)))


def other_pixels(number: int = 1) -> pydicom.Dataset:
    other = phantom(number)
    other.PixelData = bytes(reversed(other.PixelData))
    return other


def dies(monkeypatch: pytest.MonkeyPatch, box: Box, *, in_place: bool = True) -> None:
    """The verb dies when the person's word is written down: before the ledger's commit, with the copies in their place or not yet."""

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*((taking_copies, "settle") if in_place else (confirmed_copies, "_put_confirmed_in_place")), crash)
        with pytest.raises(KeyboardInterrupt):
            settle(box, take=True)


def later(worker: ReceiveWorker) -> None:
    """The worker's next turn in a minute: what a person's process began is its to end."""
    assert worker._copies is not None
    worker._copies.clock = lambda: utc_now() + IN_A_MINUTE
    worker.step()


def lost(ledger: sa.Engine) -> None:
    with ledger.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())


def lose(box: Box) -> None:
    box.spool.object_path(UID).unlink()
    box.chores().reconcile()


def damage(box: Box) -> None:
    path = box.spool.object_path(UID)
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    box.chores().scrub()
