"""Phantom images in a spool, as the listener leaves them after a C-STORE, and what a worker makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pydicom
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from prioritizer.config.settings import Settings
from prioritizer.daemon.receive import ReceiveWorker
from prioritizer.daemon.scheduled_jobs import ScheduledJobs
from prioritizer.db.instances import differing_copies as kept_copies
from prioritizer.db.instances import taking_copies
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.dicom.spool.intake import StoreOutcome
from prioritizer.dicom.spool.part10 import Receipt
from prioritizer.dicom.spool.spool import Spool
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from tests.support.ledgers import POLICY, score_next

TAKEN = datetime(2026, 3, 4, 8, 30, tzinfo=UTC)


def phantom(number: int = 1, instance: int = 1, **elements: Any) -> Dataset:
    """A small phantom image of patient `number`; `elements` are set on it, None deletes one."""
    data = phantom_file(PhantomPatient(number=number, instance=instance, taken_at=TAKEN, rows=64, columns=56))
    found = pydicom.dcmread(BytesIO(data))
    for keyword, value in elements.items():
        if value is None:
            delattr(found, keyword)
        else:
            setattr(found, keyword, value)
    return found


def encoded(dataset: Dataset, *, implicit: bool = False) -> bytes:
    """The bytes of the data set, without file meta information."""
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = implicit, True
    plain = Dataset(dataset)
    write_dataset(out, plain)
    return out.getvalue()


def receipt_of(dataset: Dataset, at: datetime | None = None, *, implicit: bool = False, syntax: str = "") -> Receipt:
    """What the listener knows of a C-STORE of it."""
    return Receipt(
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        transfer_syntax_uid=syntax or str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian),
        calling_ae="DX1",
        called_ae="PRIORITIZER",
        address="127.0.0.1",
        received_at=at or datetime.now(UTC),
    )


@dataclass(slots=True)
class Box:
    """A spool, a ledger and the workers between them, without a daemon."""

    ledger: sa.Engine
    folder: Path
    settings: Settings = field(default_factory=Settings)

    @property
    def spool(self) -> Spool:
        return Spool(self.folder / "spool")

    def stored(
        self, dataset: Dataset, at: datetime | None = None, *, implicit: bool = False, raw: bytes | None = None, syntax: str = ""
    ) -> StoreOutcome:
        """One acknowledged C-STORE."""
        partial = self.spool.begin(receipt_of(dataset, at, implicit=implicit, syntax=syntax))
        partial.write(encoded(dataset, implicit=implicit) if raw is None else raw)
        return self.spool.store(partial)

    def receive(self, **parts: Any) -> ReceiveWorker:
        """The worker, until nothing is left to take; returns it."""
        worker = ReceiveWorker(engine=self.ledger, spool=self.spool, policy=POLICY, **parts)
        while worker.step():
            pass
        return worker

    def chores(self, settings: Settings | None = None) -> ScheduledJobs:
        return ScheduledJobs(self.ledger, self.spool, lambda: settings or self.settings, Well(), lambda: POLICY)

    def rows(self) -> list[worklist_rows.WorklistRow]:
        return worklist_rows.rows(self.ledger)

    def row(self, study: str) -> worklist_rows.WorklistRow:
        return worklist_rows.study(self.ledger, study)


class Well:
    """A daemon that nothing is wrong with."""

    def ready(self) -> list[str]:
        return []

    def pat_watchdog(self) -> None:
        pass


def received_box(ledger: sa.Engine, folder: Path) -> Box:
    """One study with one image, received and not yet scored."""
    box = Box(ledger, folder)
    box.stored(phantom(1))
    box.receive()
    return box


def scored_box(ledger: sa.Engine, folder: Path) -> Box:
    """One study with one image, received and scored."""
    box = received_box(ledger, folder)
    score_next(ledger, 0.9)
    return box


def module_of_step(name: str) -> ModuleType:
    """Where a step of a differing copy stands in the ledger."""
    return taking_copies if hasattr(taking_copies, name) else kept_copies
