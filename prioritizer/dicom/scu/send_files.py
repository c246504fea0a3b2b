"""Files to a peer, as a small modality would send them: `prioritizer send FILE|DIR... --to AE@host:port`.

Each file goes out byte for byte in its own transfer syntax. A file without preamble and file meta information gets them; its data
set stays as it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, MediaStorageDirectoryStorage

from prioritizer.dicom.read.byte_stream import BufferStream, map_file
from prioritizer.dicom.read.codecs import CODEC_FAILURES
from prioritizer.dicom.read.elements import strings, tags_of
from prioritizer.dicom.read.pydicom_logging import quietly
from prioritizer.dicom.read.structure import read_header
from prioritizer.dicom.scu.association import open_association
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import MAX_CONTEXTS, REPLY_SECONDS, file_context, store
from prioritizer.dicom.standard import status
from prioritizer.dicom.standard.contexts import IMPLEMENTATION_CLASS_UID
from prioritizer.errors import PermanentRefusal, Transient, Unprocessable

_META_FOLLOWS: Final = b"DICM\x02\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentFile:
    """What became of one file."""

    path: Path
    stored: bool
    said: str
    """A sentence: what the peer answered, or why the file was not sent."""


@dataclass(frozen=True, slots=True)
class _Ready:
    path: Path
    """As the person named it."""
    sendable: Path
    context: tuple[UID, UID]


def send_files(paths: Iterable[Path], destination: Destination, *, reply_seconds: float = REPLY_SECONDS) -> Iterator[SentFile]:
    """Send every file, folders walked in order of name, and yield what became of each; nothing is raised for a single file."""
    with tempfile.TemporaryDirectory(prefix="prioritizer-send-") as folder:
        batch: list[_Ready] = []
        for path in _files(paths):
            try:
                ready = _ready(path, Path(folder))
            except (Unprocessable, PermanentRefusal) as error:
                yield SentFile(path=path, stored=False, said=f"not sent: {getattr(error, 'reason', error)}")
                continue
            if len({item.context for item in batch} | {ready.context}) > MAX_CONTEXTS:
                yield from _send_batch(batch, destination, reply_seconds)
                batch = []
            batch.append(ready)
        if batch:
            yield from _send_batch(batch, destination, reply_seconds)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(inner for inner in path.rglob("*") if inner.is_file())
        else:
            yield path


def _ready(path: Path, folder: Path) -> _Ready:
    buffer = map_file(path)
    if len(buffer) % 2:
        # Peers abort the association over a fragment of odd length, which would cost the whole batch.
        raise Unprocessable("odd-length", "the data set has an odd number of bytes, which DICOM forbids (PS3.5 7.1.1)")
    has_meta = buffer[128:134] == _META_FOLLOWS
    sendable = path if has_meta else _with_head(path, folder)
    sop_class, syntax = file_context(sendable)
    if sop_class == MediaStorageDirectoryStorage:
        raise Unprocessable("not-an-object", "a DICOMDIR is an index, not an object")
    return _Ready(path, sendable, (sop_class, syntax))


def _with_head(path: Path, folder: Path) -> Path:
    """A copy with preamble and file meta information, named by the order of arrival."""
    buffer = map_file(path)
    header, _ = read_header(BufferStream(buffer), tags_of("SOPClassUID", "SOPInstanceUID"))
    if header.fault is not None:
        raise header.fault
    sop_class, sop_instance = (next(iter(strings(header.elements, keyword)), "") for keyword in ("SOPClassUID", "SOPInstanceUID"))
    if not sop_class or not sop_instance:
        raise Unprocessable("header", "the file names no SOP Class and SOP Instance UID")
    try:
        with quietly():
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(sop_instance)
            meta.TransferSyntaxUID, meta.ImplementationClassUID = UID(header.transfer_syntax), UID(IMPLEMENTATION_CLASS_UID)
        meta.FileMetaInformationVersion = b"\x00\x01"
        head = DicomBytesIO()
        write_file_meta_info(head, meta)
    except CODEC_FAILURES as error:
        raise Unprocessable("header", "the file names no SOP Class and SOP Instance UID") from error
    copy = folder / f"{sum(1 for _ in folder.iterdir())}.dcm"
    copy.write_bytes(bytes(128) + b"DICM" + head.getvalue() + buffer[header.start :])
    return copy


def _send_batch(batch: list[_Ready], destination: Destination, reply_seconds: float) -> Iterator[SentFile]:
    """One association for the batch; opened again where the peer dropped it in the middle."""
    contexts = sorted({item.context for item in batch})
    association = None
    try:
        for item in batch:
            try:
                if association is None or not association.is_established:
                    association = open_association(destination, contexts, reply_seconds)
                store(destination, association, item.sendable, *item.context)
            except (Transient, PermanentRefusal) as error:
                yield SentFile(path=item.path, stored=False, said=str(error))
            else:
                yield SentFile(path=item.path, stored=True, said=status.describe(status.SUCCESS))
    finally:
        if association is not None and association.is_established:
            association.release()
