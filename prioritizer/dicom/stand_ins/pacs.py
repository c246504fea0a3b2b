"""A small receiving PACS for the demo: it keeps what comes in memory and says what it got. No archive."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage
from pynetdicom import AE, evt

from prioritizer.dicom.standard import status
from prioritizer.dicom.standard.contexts import VERIFICATION
from prioritizer.errors import ConfigError


@dataclass(slots=True)
class PacsStandIn:
    """Result objects by SOP Instance UID, in order of arrival."""

    received: dict[str, Dataset] = field(default_factory=dict)
    came: threading.Condition = field(default_factory=threading.Condition)

    def keep(self, event: evt.Event) -> int:
        """Store one object; the same UID again changes nothing."""
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        with self.came:
            self.received.setdefault(str(dataset.SOPInstanceUID), dataset)
            self.came.notify_all()
        return status.SUCCESS

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """True when at least `count` objects came in time."""
        with self.came:
            return self.came.wait_for(lambda: len(self.received) >= count, timeout_s)

    def write_pictures(self, folder: Path) -> list[tuple[str, Path]]:
        """The pictures as JPEG or PNG files: (Study Instance UID, file)."""
        folder.mkdir(parents=True, exist_ok=True)
        return [(str(dataset.StudyInstanceUID), _write(dataset, folder / uid)) for uid, dataset in self.received.items()]


def _write(dataset: Dataset, stem: Path) -> Path:
    if dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit:
        frame = next(generate_frames(BytesIO(dataset.PixelData), number_of_frames=1))
        target = stem.with_name(f"{stem.name}.jpg")
        target.write_bytes(frame)
        return target
    target = stem.with_name(f"{stem.name}.png")
    Image.frombytes("RGB", (dataset.Columns, dataset.Rows), dataset.PixelData[: dataset.Rows * dataset.Columns * 3]).save(target)
    return target


@contextmanager
def running_pacs(ae_title: str, host: str, port: int) -> Iterator[PacsStandIn]:
    """A PACS stand-in that answers while the context is open. Raises ConfigError when the port is taken."""
    stand_in = PacsStandIn()
    entity = AE(ae_title=ae_title)
    entity.add_supported_context(VERIFICATION)
    entity.add_supported_context(SecondaryCaptureImageStorage, [JPEGBaseline8Bit, ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    try:
        entity.start_server((host, port), block=False, evt_handlers=[(evt.EVT_C_STORE, stand_in.keep)])
    except OSError as error:
        raise ConfigError((f"port {port} for the PACS stand-in cannot be used ({error.strerror})",)) from error
    try:
        yield stand_in
    finally:
        entity.shutdown()
