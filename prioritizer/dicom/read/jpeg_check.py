"""Proof that a JPEG frame is whole: its markers are in order, and a lossless picture accounts for every byte of its data.

libjpeg-turbo goes on behind damage with a warning and fills what is missing with grey; `imagecodecs` does not pass the warning on.
A lossless frame holds each sample as the difference to its prediction, in a code whose length the frame's own table states. So a
decoded picture says how many bytes it must have been read from: where the frame has more or fewer, something in it was damaged.
That finds what breaks off and what is out of step. It does not find a flipped bit that leaves every code as long as it was; nor is there
anything of the kind for JPEG Extended, where damage between the markers decodes to another picture.

Sources: ISO 10918-1 B.1.1 (markers, fill bytes, stuffing), B.2 (segments), H.1 (lossless: prediction, restart intervals, codes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.uint16]

_SOI, _EOI, _SOS, _DHT, _DRI, _LOSSLESS = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0xC3
_FIRST_RESTART, _LAST_RESTART = 0xD0, 0xD7
_WITHOUT_SEGMENT = frozenset((0x01, *range(_FIRST_RESTART, _EOI + 1)))
_OTHER_THAN_FRAME_HEADERS = frozenset((_DHT, 0xC8, 0xCC))
_BAND_ROWS = 32
"""Rows looked at together: what they take for work stays in the cache."""
_NO_CODE = 1 << 22
"""More than the bits of any row: up to 65535 samples of at most 32 bits each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The one scan of a grey frame, as its segments state it."""

    process: int
    """The marker of the frame header, 0xC0 to 0xCF."""
    precision: int
    rows: int
    columns: int
    predictor: int
    """Ss, the selection value 1 to 7 of a lossless scan."""
    point_transform: int
    """Al: bits that the samples were shifted right before they were coded."""
    restart_interval: int
    """Samples (lossless) or blocks of 8 x 8 in a restart interval; 0 where there is one interval."""
    code_lengths: dict[int, int]
    """Bits of the code of each symbol in the table that the scan names."""
    interval_bytes: NDArray[np.int64]
    """Bytes of entropy-coded data in each restart interval, without stuffing and fill bytes."""

    @property
    def lossless(self) -> bool:
        """Whether the frame is lossless sequential, Huffman (SOF3)."""
        return self.process == _LOSSLESS


def whole_scan(frame: bytes) -> Scan:
    """The scan of a frame of one component that goes from SOI to EOI in one scan, every restart marker at its turn.

    Behind EOI may follow nulls, or one byte that makes the length even (PS3.5 A.4); behind that of a lossless frame, whose samples
    account for its data, anything. Raises ValueError for any other frame.
    """
    if frame[:2] != bytes((0xFF, _SOI)):
        raise ValueError("no start of image")
    tables = dict[int, dict[int, int]]()
    header: tuple[int, ...] | None = None
    process = restart_interval = 0
    position = 2
    while True:
        marker, segment, position = _segment(frame, position)
        if marker == _SOS:
            break
        if marker == _DHT:
            tables.update(_code_lengths(segment))
        elif marker == _DRI:
            restart_interval = int.from_bytes(segment, "big")
        elif 0xC0 <= marker <= 0xCF and marker not in _OTHER_THAN_FRAME_HEADERS:
            if header is not None or len(segment) != 9:
                raise ValueError("two frame headers, or one of several components")
            process, header = marker, struct.unpack_from(">BHHB", segment)
    if header is None or len(segment) != 6:
        raise ValueError("a scan without frame header, or one of several components")
    precision, rows, columns, _ = header
    scan = Scan(
        process=process,
        precision=precision,
        rows=rows,
        columns=columns,
        predictor=segment[3],
        point_transform=segment[5] & 15,
        restart_interval=restart_interval,
        code_lengths=tables.get(segment[2] >> 4, {}),
        interval_bytes=_interval_bytes(frame, position, alone=process != _LOSSLESS),
    )
    units = rows * columns if scan.lossless else -(-rows // 8) * -(-columns // 8)
    if len(scan.interval_bytes) != (-(-units // restart_interval) if restart_interval else 1):
        raise ValueError("restart markers are missing, or there are too many")
    return scan


def _segment(frame: bytes, position: int) -> tuple[int, bytes, int]:
    """Marker, parameters and the position behind them of the marker segment at `position`; fill bytes before it are passed over."""
    begin = position
    while frame[position : position + 1] == b"\xff":
        position += 1
    if position == begin or position + 3 > len(frame) or frame[position] in _WITHOUT_SEGMENT:
        raise ValueError("no marker segment where one must be")
    length = int.from_bytes(frame[position + 1 : position + 3], "big")
    end = position + 1 + length
    if length < 2 or end > len(frame):
        raise ValueError("a marker segment is longer than the frame")
    return frame[position], frame[position + 3 : end], end


def _code_lengths(segment: bytes) -> dict[int, dict[int, int]]:
    """For each DC (lossless) table of a DHT segment, the bits of the code of each symbol (B.2.4.2)."""
    found = dict[int, dict[int, int]]()
    while segment:
        counts = segment[1:17]
        symbols = segment[17 : 17 + sum(counts)]
        lengths = [length for length, count in enumerate(counts, 1) for _ in range(count)]
        if len(counts) != 16 or len(symbols) != len(lengths):
            raise ValueError("a Huffman table breaks off")
        table = dict(zip(symbols, lengths, strict=True))
        if segment[0] >> 4 == 0:
            # With two codes for a symbol nobody knows which was meant: such a table accounts for nothing.
            found[segment[0]] = table if len(table) == len(symbols) else {}
        segment = segment[17 + len(symbols) :]
    return found


def _interval_bytes(frame: bytes, begin: int, *, alone: bool) -> NDArray[np.int64]:
    """Bytes of data between scan header, restart markers and EOI; 0xFF00 is one byte of data, 0xFFFF a fill byte and none.

    `alone`: nothing but padding may follow EOI.
    """
    marks, following, end = _marks_of_data(frame, begin, least_marker=1)
    if alone:
        _require_nothing_behind(frame, end)
    restarts = (following >= _FIRST_RESTART) & (following <= _LAST_RESTART)
    numbers = following[restarts] - _FIRST_RESTART
    if not np.array_equal(numbers, np.arange(len(numbers)) % 8):
        raise ValueError("the restart markers are out of order")
    starts = np.concatenate(([begin], marks[restarts] + 2))
    ends = np.concatenate((marks[restarts], [end]))
    dropped = np.bincount(np.searchsorted(starts, marks[~restarts], "right") - 1, minlength=len(starts))
    return (ends - starts - dropped).astype(np.int64)


def _marks_of_data(frame: bytes, begin: int, least_marker: int) -> tuple[NDArray[np.int64], NDArray[np.uint8], int]:
    """Where 0xFF stands in the data that begin at `begin`, the byte behind each, and where their EOI begins.

    A byte behind 0xFF below `least_marker` is data. Raises ValueError where another marker than RSTn interrupts them.
    """
    data = np.frombuffer(frame, dtype=np.uint8)
    marks = np.flatnonzero(data[begin:-1] == 0xFF) + begin
    following = data[marks + 1]
    within = (following < least_marker) | (following == 0xFF) | ((following >= _FIRST_RESTART) & (following <= _LAST_RESTART))
    others = np.flatnonzero(~within)
    if not len(others) or following[others[0]] != _EOI:
        raise ValueError("the data end without an end of image")
    end = int(marks[others[0]])
    return marks[: others[0]], following[: others[0]], end


def _require_nothing_behind(frame: bytes, end: int) -> None:
    behind = frame[end + 2 :]
    if len(behind) > 1 and behind.strip(b"\0"):
        raise ValueError("something follows the end of image")


def require_end_of_jpeg_ls(frame: bytes) -> None:
    """Raises ValueError where the one scan of a JPEG-LS frame does not go on to EOI (ISO 14495-1: a 0 bit follows 0xFF in the data)."""
    marker, position = 0, 2
    while marker != _SOS:
        marker, _, position = _segment(frame, position)
    _require_nothing_behind(frame, _marks_of_data(frame, position, least_marker=0x80)[2])


def require_accounted(scan: Scan, pixels: NDArray[np.unsignedinteger]) -> None:
    """Raises ValueError where the decoded `pixels`, shape (rows, columns), cannot have been coded in the bytes of the lossless scan."""
    if not (1 <= scan.predictor <= 7 and scan.point_transform < scan.precision):
        raise ValueError("no predictor of a lossless scan")
    if scan.restart_interval % scan.columns:
        raise ValueError("a restart interval of a lossless scan ends inside a line")
    if int(pixels.max()) >> scan.precision:
        raise ValueError("a sample has more bits than the precision of the frame")
    lines = scan.restart_interval // scan.columns or scan.rows
    costs = _bits_of_differences(scan)
    bits = np.concatenate([_bits_of_rows(costs, _differences(scan, pixels, top, lines)) for top in range(0, scan.rows, _BAND_ROWS)])
    needed = -(-np.add.reduceat(bits, np.arange(0, scan.rows, lines)) // 8)
    if not np.array_equal(needed, scan.interval_bytes):
        raise ValueError("the decoded samples are not those of the data")


def _bits_of_rows(costs: NDArray[np.float32], differences: Samples) -> NDArray[np.int64]:
    """Bits that each row takes in the frame, of the differences of its samples from their predictions."""
    # Sums of whole numbers below 2^24 are exact in float32, and faster than those of integers that must be widened.
    bits = np.take(costs, differences, mode="wrap").sum(axis=1)
    if bits.max() >= _NO_CODE:
        raise ValueError("a sample has no code in the table of the frame")
    found: NDArray[np.int64] = bits.astype(np.int64)
    return found


def _differences(scan: Scan, pixels: NDArray[np.unsignedinteger], top: int, lines: int) -> Samples:
    """What the rows from `top` on differ from their prediction, modulo 2^16 (H.1.2.1)."""
    shift = np.uint16(scan.point_transform)
    rows = pixels[max(top - 1, 0) : top + _BAND_ROWS].astype(np.uint16, copy=False)
    rows = rows >> shift if shift else rows
    here, above = (rows[1:], rows[:-1]) if top else (rows, np.concatenate((rows[:1], rows[:-1])))
    found = np.empty_like(here)
    found[:, 0] = here[:, 0] - above[:, 0]
    found[:, 1:] = here[:, 1:] - _PREDICTIONS[scan.predictor](here[:, :-1], above[:, 1:], above[:, :-1])
    # The first line of an interval knows none above it (H.1.1).
    starts = slice(-top % lines, None, lines)
    found[starts, 1:] = here[starts, 1:] - here[starts, :-1]
    found[starts, 0] = here[starts, 0] - np.uint16(1 << (scan.precision - scan.point_transform - 1))
    return found


def _wide(predict: Callable[[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]], NDArray[np.int32]]) -> _Prediction:
    """A prediction whose halves need a sign."""
    return lambda a, b, c: predict(a.astype(np.int32), b.astype(np.int32), c.astype(np.int32)).astype(np.uint16)


_Prediction = Callable[[Samples, Samples, Samples], Samples]
_PREDICTIONS: dict[int, _Prediction] = {
    1: lambda a, b, c: a,
    2: lambda a, b, c: b,
    3: lambda a, b, c: c,
    4: lambda a, b, c: a + b - c,
    5: _wide(lambda a, b, c: a + ((b - c) >> 1)),
    6: _wide(lambda a, b, c: b + ((a - c) >> 1)),
    7: _wide(lambda a, b, c: (a + b) >> 1),
}
"""Table H.1, of the samples to the left (a), above (b), and above to the left (c)."""


def _bits_of_differences(scan: Scan) -> NDArray[np.float32]:
    """Code and extra bits of each difference modulo 2^16 (H.1.2.2); _NO_CODE where the table has no code for its category."""
    differences = np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.int32)
    categories = np.frexp(np.abs(differences))[1]  # floor(log2) + 1, 0 of 0, 16 of 2^15
    codes = np.array([scan.code_lengths.get(category, _NO_CODE) for category in range(17)])
    extra = np.array([*range(16), 0])
    return np.where(codes == _NO_CODE, _NO_CODE, codes + extra)[categories].astype(np.float32)
