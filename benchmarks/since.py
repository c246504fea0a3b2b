"""This checkout beside an older one, in alternating rounds of one run: films scored a second, and intake.

`python -m benchmarks.since OLD_CHECKOUT`, a worktree of the older commit. Both run in this environment, so it must hold what both import.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import imagecodecs
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from benchmarks import intake, line
from benchmarks.intake import Film, images_per_second

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom import Dataset

ROUNDS = 5
FILMS = 20
CALLED = b"PRIORITIZER"
HERE = Path(__file__).resolve().parents[1]
_UIDS = {"SOPInstanceUID": "1.2." + "7" * 36, "StudyInstanceUID": "1.2." + "8" * 36, "SeriesInstanceUID": "1.2." + "9" * 36}


class Radiograph(Film):
    """A whole radiograph, encoded once; each sending is an instance of a study of its own."""

    def __init__(self, film: Dataset) -> None:
        self.syntax = str(film.file_meta.TransferSyntaxUID)
        for keyword, placeholder in _UIDS.items():
            setattr(film, keyword, placeholder)
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        del film.file_meta
        write_dataset(buffer, film)
        self._data = buffer.getvalue()

    def messages(self, max_length: int) -> Callable[[str], tuple[bytes, memoryview]]:
        """As of a film: the first PDU holds every UID, and they keep their length."""
        step = (max_length or 131_072) - 6
        starts = range(step, len(self._data), step)
        rest = memoryview(b"".join(intake._p_data(self._data[at : at + step], at + step >= len(self._data)) for at in starts))

        def message(sop: str) -> tuple[bytes, memoryview]:
            head = self._data[:step]
            for number, placeholder in enumerate(_UIDS.values()):
                head = head.replace(placeholder.encode(), f"{sop[:-1]}{number + 1}".encode())
            return intake._command(f"{sop[:-1]}1") + intake._p_data(head, len(self._data) <= step), rest

        return message


def uncompressed(folder: Path) -> Radiograph:
    """10 MB of 16-bit words."""
    return Radiograph(line.film_of_10_mb(folder / "film.dcm"))


def jpeg_lossless(folder: Path) -> Radiograph:
    """The same image as JPEG Lossless of 14 bits."""
    film = line.film_of_10_mb(folder / "film.dcm")
    frame = imagecodecs.jpeg8_encode(film.pixel_array, lossless=True, predictor=1, bitspersample=14)
    film.PixelData = encapsulate([frame])
    film["PixelData"].VR, film["PixelData"].is_undefined_length = "OB", True
    film.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    return Radiograph(film)


def scored_per_second(checkout: Path, film: Film) -> float:
    """Films from the first byte sent over one association until all are scored."""
    with line.running(checkout) as daemon:
        images_per_second(daemon.port, film, 1, 3, CALLED)
        daemon.await_idle()
        before = daemon.scored()
        begin = time.perf_counter()
        images_per_second(daemon.port, film, 1, FILMS, CALLED)
        while daemon.scored() < before + FILMS:
            time.sleep(0.005)
            if time.perf_counter() > begin + 120:
                raise TimeoutError("not every film was scored")
        return FILMS / (time.perf_counter() - begin)


def taken_per_second(checkout: Path, film: Film) -> float:
    """Films acknowledged a second over four associations."""
    with tempfile.TemporaryDirectory(dir=HERE) as folder, intake.ours(Path(folder), checkout) as (port, _):
        images_per_second(port, film, 4, 2)
        return images_per_second(port, film, 4, 10)


def written_per_second(length: int) -> float:
    """Files of this length written and synced a second by four threads: what the disk allows."""
    data = os.urandom(length)
    with tempfile.TemporaryDirectory(dir=HERE) as folder:

        def write(number: int) -> None:
            for turn in range(10):
                with (Path(folder) / f"{number}-{turn}").open("wb", buffering=0) as file:
                    file.write(data)
                    os.fsync(file.fileno())

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 40 / (time.perf_counter() - begin)


def compared(what: str, measure: Callable[[Path], float], old: Path, bound: Callable[[], float] | None = None) -> dict[str, str]:
    """Both checkouts in alternating order, the median of each with its spread, and the ratio of the medians.

    `bound` is measured before and after them in every round, so that what the disk did meanwhile counts for all.
    """
    found: dict[Path, list[float]] = {old: [], HERE: []}
    bounds = []
    for turn in range(ROUNDS):
        for checkout in (old, HERE) if turn % 2 == 0 else (HERE, old):
            if bound is not None:
                bounds.append(bound())
            found[checkout].append(measure(checkout))
    before, now = statistics.median(found[old]), statistics.median(found[HERE])
    row = {"what": what, "ratio": f"{now / before:.2f}", "old": _spread(found[old]), "new": _spread(found[HERE])}
    if bounds:
        row |= {"written and synced by 4 threads": _spread(bounds), "new to that": f"{now / statistics.median(bounds):.2f}"}
    return row


def _spread(figures: list[float]) -> str:
    return f"{statistics.median(figures):.2f} ({min(figures):.2f}-{max(figures):.2f})"


def main() -> None:
    """Print the three ratios, and beside intake what the disk allows."""
    old = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        native, lossless = uncompressed(Path(folder)), jpeg_lossless(Path(folder))
    print(json.dumps(compared("uncompressed, films scored a second", lambda checkout: scored_per_second(checkout, native), old)))
    print(json.dumps(compared("JPEG Lossless, films scored a second", lambda checkout: scored_per_second(checkout, lossless), old)))
    large = Film(10_240_000)
    what = "intake over 4 associations, films a second"
    print(json.dumps(compared(what, lambda checkout: taken_per_second(checkout, large), old, lambda: written_per_second(10_240_000))))


if __name__ == "__main__":
    main()
