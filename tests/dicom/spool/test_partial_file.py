"""A file on its way into the spool: whatever the pieces, the bytes are those that came, and a disk that says no is believed."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prioritizer.dicom.spool import durable, partial_file
from prioritizer.dicom.spool.part10 import encode_header
from prioritizer.dicom.spool.partial_file import Partial
from tests.support.spool_files import receipt

PIECES = st.lists(st.integers(0, 20_000), max_size=12)


def written(path: Path, pieces: list[bytes]) -> bytes:
    """What stands behind the header of a file made of these pieces."""
    path.unlink(missing_ok=True)
    file = Partial(path, receipt())
    for piece in pieces:
        file.write(piece)
    file.seal()
    data = path.read_bytes()
    header = encode_header(file.receipt)
    assert data.startswith(header)
    assert file.written == len(data)
    return data[len(header) :]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(PIECES)
def test_a_file_holds_what_came_in_pieces_of_any_size(tmp_path: Path, sizes: list[int]):
    pieces = [os.urandom(size) for size in sizes]
    assert written(tmp_path / "file", pieces) == b"".join(pieces)


@pytest.mark.parametrize("taken", [1, 700, 5000])
def test_a_disk_that_takes_a_part_at_a_time_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int):
    real = os.write

    def few(descriptor: int, data: bytes | memoryview) -> int:
        return real(descriptor, bytes(data)[:taken])

    monkeypatch.setattr(os, "write", few)
    monkeypatch.setattr(os, "writev", lambda descriptor, parts: few(descriptor, b"".join(bytes(part) for part in parts)))
    pieces = [os.urandom(size) for size in (10, 5000, 4096, 9000, 3)]
    assert written(tmp_path / "file", pieces) == b"".join(pieces)


def test_all_but_the_last_write_ends_with_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ends: list[int] = []
    for name in ("write", "writev"):
        real = getattr(os, name)

        def noted(descriptor: int, data: object, real=real) -> int:
            done: int = real(descriptor, data)
            ends.append(os.lseek(descriptor, 0, os.SEEK_CUR))
            return done

        monkeypatch.setattr(os, name, noted)
    written(tmp_path / "file", [os.urandom(130_001) for _ in range(4)])
    assert len(ends) >= 5
    assert all(end % 4096 == 0 for end in ends[1:-1])


def early_writing_answers(monkeypatch: pytest.MonkeyPatch, number: int) -> list[tuple[int, int]]:
    """sync_file_range fails with this error; the offsets and lengths it was called with."""
    calls: list[tuple[int, int]] = []

    def refused(descriptor: int, offset: ctypes.c_int64, length: ctypes.c_int64, flags: int) -> int:
        calls.append((offset.value, length.value))
        ctypes.set_errno(number)
        return -1

    monkeypatch.setattr(durable, "_sync_file_range", refused)
    return calls


def test_a_disk_that_refuses_early_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    early_writing_answers(monkeypatch, errno.ENOSPC)
    failures: list[str] = []
    file = Partial(tmp_path / "file", receipt(), lambda: failures.append("disk"))
    with pytest.raises(OSError, match="No space left"):
        file.write(bytes(partial_file._AHEAD))
    assert failures == ["disk"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EINTR])
def test_a_system_that_cannot_begin_early_stores_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    calls = early_writing_answers(monkeypatch, number)
    data = os.urandom(3 * partial_file._AHEAD)
    assert written(tmp_path / "file", [data[at : at + 100_000] for at in range(0, len(data), 100_000)]) == data
    assert calls, "it was asked"


def test_a_c_library_without_the_call_stores_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(durable, "_sync_file_range", None)
    data = os.urandom(2 * partial_file._AHEAD)
    assert written(tmp_path / "file", [data]) == data


def test_the_disk_is_asked_to_begin_with_every_byte_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = early_writing_answers(monkeypatch, errno.ENOSYS)
    written(tmp_path / "file", [bytes(131_060)] * 40)
    assert len(calls) >= 4
    assert calls[0][0] == 0
    assert all(offset == before + length for (before, length), (offset, _) in itertools.pairwise(calls))


def test_the_real_call_takes_a_range_of_a_real_file(tmp_path: Path):
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(bytes(8192))
        durable.start_writing(file.fileno(), 0, 8192)
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable.start_writing(-1, 0, 8192)
