"""Data sets kept in a spool, with the receipt that the listener writes before them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prioritizer.dicom.spool.intake import StoreOutcome
from prioritizer.dicom.spool.part10 import Receipt, read_receipt
from prioritizer.dicom.spool.spool import Spool
from tests.support.listener_process import DX

EXPLICIT = "1.2.840.10008.1.2.1"


def receipt(uid: str = "1.2.3", syntax: str = EXPLICIT) -> Receipt:
    return Receipt(
        sop_class_uid=DX,
        sop_instance_uid=uid,
        transfer_syntax_uid=syntax,
        calling_ae="MODALITY",
        called_ae="PRIORITIZER",
        address="127.0.0.1",
        received_at=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    )


def keep(spool: Spool, data: bytes, uid: str = "1.2.3", syntax: str = EXPLICIT) -> StoreOutcome:
    partial = spool.begin(receipt(uid, syntax))
    partial.write(data)
    return spool.store(partial)


def data_of(path: Path) -> bytes:
    return path.read_bytes()[read_receipt(path).dataset_offset :]


def kept_beside(spool: Spool) -> list[tuple[str, Path]]:
    """(SOP Instance UID, file) of every differing copy that the spool keeps beside the first."""
    return [(read_receipt(path).sop_instance_uid, path) for path in spool.copies()]
