"""The spool keeps what was acknowledged, whoever crashes between two steps, and never acknowledges what may be lost."""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.dicom.spool.intake import StoreOutcome
from prioritizer.dicom.spool.notices import RepeatFilter, read
from prioritizer.dicom.spool.part10 import HEAD_BYTES, check_identity, identity, read_receipt, valid_uid
from prioritizer.dicom.spool.spool import Spool
from prioritizer.dicom.standard import status
from prioritizer.dicom.standard.contexts import IMPLEMENTATION_CLASS_UID
from prioritizer.errors import Refused
from tests.support.listener_process import DX
from tests.support.spool_files import EXPLICIT, data_of, keep, kept_beside, receipt

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def broken_fsync(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """The next `times` calls of fsync fail; returns the descriptors it was asked for."""
    asked: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        asked.append(descriptor)
        if len(asked) <= times:
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return asked


def test_a_stored_instance_lies_in_the_inbox_and_its_header_tells_all(spool: Spool) -> None:
    assert keep(spool, b"data set") is StoreOutcome.STORED
    (path,) = spool.inbox()
    told = read_receipt(path)
    assert (told.sop_instance_uid, told.sop_class_uid, told.transfer_syntax_uid) == ("1.2.3", DX, EXPLICIT)
    assert (told.calling_ae, told.called_ae, told.address) == ("MODALITY", "PRIORITIZER", "127.0.0.1")
    assert told.received_at == datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    assert (data_of(path), told.size) == (b"data set", path.stat().st_size)


def test_pydicom_reads_our_header_and_finds_our_implementation(spool: Spool) -> None:
    keep(spool, b"")
    meta = pydicom.dcmread(next(spool.inbox())).file_meta
    assert meta.ImplementationClassUID == meta.PrivateInformationCreatorUID == IMPLEMENTATION_CLASS_UID
    assert pydicom.uid.UID(IMPLEMENTATION_CLASS_UID).is_valid


def test_a_file_of_another_house_has_no_receipt(tmp_path: Path) -> None:
    for content in (b"", b"short", b"\x00" * 128 + b"DICM" + b"\x00" * 40):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            read_receipt(tmp_path / "x")


def test_the_inbox_is_listed_oldest_first(spool: Spool) -> None:
    for number, uid in enumerate(("1.9", "1.5", "1.7")):
        keep(spool, b"x", uid)
        os.utime(spool.find(uid) or "", ns=(number, number))
    assert [path.stem for path in spool.inbox()] == ["1.9", "1.5", "1.7"]


def test_settling_moves_an_instance_to_its_place_and_may_be_repeated(spool: Spool) -> None:
    keep(spool, b"x")
    (path,) = spool.inbox()
    copy = path.read_bytes()
    settled = spool.settle(path)
    assert settled == spool.object_path("1.2.3") == spool.find("1.2.3")
    path.write_bytes(copy)
    assert spool.settle(path) == settled
    assert not list(spool.inbox())
    assert not kept_beside(spool)


def test_a_crash_between_link_and_unlink_is_settled_by_settling_again(spool: Spool) -> None:
    keep(spool, b"x")
    (path,) = spool.inbox()
    spool.object_path("1.2.3").parent.mkdir()
    os.link(path, spool.object_path("1.2.3"))
    spool.settle(path)
    assert not list(spool.inbox())
    assert not kept_beside(spool)


@pytest.mark.parametrize("settled", [False, True])
def test_the_same_bytes_again_are_a_duplicate(spool: Spool, settled: bool) -> None:
    keep(spool, b"x")
    if settled:
        spool.settle(next(spool.inbox()))
    assert keep(spool, b"x") is StoreOutcome.DUPLICATE
    assert len(list(spool.inbox())) == (0 if settled else 1)
    assert not list(spool.partial.iterdir())


@pytest.mark.parametrize("settled", [False, True])
def test_other_bytes_are_kept_beside_the_first_once(spool: Spool, settled: bool) -> None:
    keep(spool, b"first")
    if settled:
        spool.settle(next(spool.inbox()))
    assert [keep(spool, b"other"), keep(spool, b"other")] == [StoreOutcome.CONFLICT] * 2
    ((uid, path),) = kept_beside(spool)
    assert (uid, data_of(path)) == ("1.2.3", b"other")
    assert data_of(spool.find("1.2.3") or Path()) == b"first"
    assert [one.name for one in spool.copies()] == [path.name]


@pytest.mark.parametrize("settled", [False, True])
def test_the_same_bytes_in_another_transfer_syntax_are_other_bytes(spool: Spool, settled: bool) -> None:
    keep(spool, b"x")
    if settled:
        spool.settle(next(spool.inbox()))
    syntaxes = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.4.70"]
    assert [keep(spool, b"x", syntax=syntax) for syntax in (*syntaxes, *syntaxes)] == [StoreOutcome.CONFLICT] * 4
    assert sorted(read_receipt(path).transfer_syntax_uid for path in spool.copies()) == syntaxes
    for path in spool.copies():
        spool.quarantine(path, "aside")
    assert sorted(read_receipt(path).transfer_syntax_uid for path, _ in spool.quarantined()) == syntaxes


def test_settling_other_bytes_keeps_both(spool: Spool) -> None:
    keep(spool, b"first")
    spool.settle(next(spool.inbox()))
    late = spool.root / "inbox" / "1.2.3.dcm"
    other = Spool(spool.root.parent / "other")
    keep(other, b"other")
    next(other.inbox()).rename(late)
    spool.settle(late)
    assert data_of(spool.object_path("1.2.3")) == b"first"
    assert [data_of(path) for _, path in kept_beside(spool)] == [b"other"]


def test_a_failed_fsync_of_the_file_is_refused_and_never_repeated(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = spool.begin(receipt())
    asked = broken_fsync(monkeypatch, times=1)
    with pytest.raises(Refused) as refused:
        spool.store(partial)
    assert refused.value.status == status.OUT_OF_RESOURCES
    assert len(asked) == 1
    assert not list(spool.inbox())
    assert not list(spool.partial.iterdir())


def test_a_failed_fsync_of_the_folder_takes_the_name_back(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = spool.begin(receipt())
    monkeypatch.setattr("prioritizer.dicom.spool.intake.sync_folder", lambda _: (_ for _ in ()).throw(OSError(5, "I/O error")))
    with pytest.raises(Refused):
        spool.store(partial)
    assert not list(spool.inbox())


def test_two_failures_in_a_row_close_the_spool_until_a_probe_reaches_disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("prioritizer.dicom.spool.intake.time.monotonic", lambda: now[0])
    broken_fsync(monkeypatch, times=3)
    for _ in range(2):
        with pytest.raises(Refused):
            keep(spool, b"x")
    with pytest.raises(Refused):
        spool.begin(receipt())
    assert not spool.accepting()
    now[0] += 2.0
    assert spool.accepting()
    assert keep(spool, b"x") is StoreOutcome.STORED


def test_one_failure_between_successes_closes_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_fsync(monkeypatch, times=1)
    with pytest.raises(Refused):
        keep(spool, b"x")
    assert spool.accepting()
    assert keep(spool, b"x") is StoreOutcome.STORED


@pytest.mark.parametrize("settling", [False, True])
def test_many_senders_of_one_instance_at_once_leave_one_first_and_one_conflict_each(spool: Spool, settling: bool) -> None:
    def send(content: bytes) -> StoreOutcome:
        partial = spool.begin(receipt())
        partial.write(content)
        return spool.store(partial)

    def settle() -> None:
        for path in spool.inbox():
            spool.settle(path)

    # One settler, as in the daemon: the receive worker is the only one that moves files out of the inbox.
    with ThreadPoolExecutor(9) as senders, ThreadPoolExecutor(1) as station:
        sent = [senders.submit(send, content) for content in (b"one", b"two", b"six") * 3]
        settled = [station.submit(settle) for _ in range(3 * settling)]
        outcomes = [each.result() for each in sent]
        assert [each.result() for each in settled] == [None] * (3 * settling)
    settle()
    kept = {data_of(spool.object_path("1.2.3")), *(data_of(path) for _, path in kept_beside(spool))}
    assert kept == {b"one", b"two", b"six"}
    assert StoreOutcome.STORED in outcomes
    assert outcomes.count(StoreOutcome.STORED) == 1 or settling


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the product catches it."""


def killed_before(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The process dies before its `step`-th call that changes the disk or waits for it."""
    calls = iter(range(1000))

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(calls) >= step:
                raise Killed
            return real(*arguments, **named)

        return call

    for name in ("write", "fsync", "link", "unlink", "open"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


@pytest.mark.parametrize("step", range(12))
def test_killed_at_any_step_of_storing_nothing_whole_is_lost_and_sending_again_mends(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    acknowledged = False
    with monkeypatch.context() as dying, suppress(Killed):
        killed_before(dying, step)
        acknowledged = keep(spool, b"data set") is StoreOutcome.STORED
    restarted = Spool(spool.root)
    restarted.sweep_partials()
    found = list(restarted.inbox())
    assert len(found) == 1 or not acknowledged
    assert all(data_of(path) == b"data set" for path in found)
    assert keep(restarted, b"data set") is (StoreOutcome.DUPLICATE if found else StoreOutcome.STORED)


@pytest.mark.parametrize("step", range(6))
def test_killed_at_any_step_of_settling_the_instance_is_held_once(spool: Spool, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    keep(spool, b"data set")
    with monkeypatch.context() as dying, suppress(Killed):
        killed_before(dying, step)
        spool.settle(next(spool.inbox()))
    restarted = Spool(spool.root)
    for path in list(restarted.inbox()):
        restarted.settle(path)
    assert data_of(restarted.object_path("1.2.3")) == b"data set"
    assert (list(restarted.inbox()), kept_beside(restarted)) == ([], [])


def test_what_a_crash_left_half_written_is_swept(spool: Spool) -> None:
    spool.begin(receipt()).write(b"half")
    assert Spool(spool.root).sweep_partials() == 1
    assert not list(spool.partial.iterdir())


def test_quarantined_bytes_are_listed_with_their_reason_and_noticed_once(spool: Spool) -> None:
    for _ in range(2):
        path = spool.quarantine(b"not a data set", "no identity", calling_ae="MODALITY")
    ((listed, told),) = spool.quarantined()
    assert (listed, listed.read_bytes(), told["reason"], told["calling_ae"]) == (path, b"not a data set", "no identity", "MODALITY")
    assert [read(path)["kind"] for path in spool.notices()] == ["quarantined"]


def test_quarantining_a_file_takes_it_out_of_the_line(spool: Spool) -> None:
    keep(spool, b"x")
    (path,) = spool.inbox()
    spool.quarantine(path, "truncated")
    assert not list(spool.inbox())
    assert len(list(spool.quarantined())) == 1


def test_everything_settled_is_found_again_and_removed_by_name(spool: Spool) -> None:
    for uid in ("1.2.3", "1.2.4"):
        keep(spool, b"x", uid)
    for path in spool.inbox():
        spool.settle(path)
    assert {read_receipt(path).sop_instance_uid for path in spool.held()} == {"1.2.3", "1.2.4"}
    assert [spool.remove("1.2.3"), spool.remove("1.2.3")] == [True, False]
    assert (spool.find("1.2.3"), len(list(spool.held()))) == (None, 1)


@given(st.text(max_size=80))
def test_no_text_of_a_peer_becomes_a_path(tmp_path_factory: pytest.TempPathFactory, uid: str) -> None:
    spool = Spool(tmp_path_factory.getbasetemp() / "paths")
    path = spool.object_path(uid)
    assert path.parent.parent == spool.objects
    assert valid_uid(path.stem) or set(path.stem) <= set("0123456789abcdef")


@given(st.binary(max_size=400), st.sampled_from([EXPLICIT, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]))
def test_any_bytes_are_either_belonging_or_refused_by_name(head: bytes, syntax: str) -> None:
    with pytest.raises(Refused) as refused:
        check_identity(head, receipt(syntax=syntax))
    assert refused.value.status in {status.DATA_SET_UNREADABLE, status.IDENTITY_MISSING, status.SOP_CLASS_MISMATCH}


def test_identity_is_found_behind_a_sequence_of_undefined_length() -> None:
    sequence = b"\x08\x00\x06\x00SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x00\x01SH\x02\x00en"
    sequence += b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    uids = b"\x08\x00\x16\x00UI\x04\x001.2\x00\x08\x00\x18\x00UI\x06\x001.2.3\x00"
    assert identity(sequence + uids, EXPLICIT) == ("1.2", "1.2.3")


def test_a_deflate_bomb_is_inflated_no_further_than_the_head() -> None:
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(b"\x08\x00\x05\x00UN\x00\x00\xff\xff\xff\x00" + bytes(50_000_000)) + packer.flush()
    assert identity(bomb[:HEAD_BYTES], "1.2.840.10008.1.2.1.99") == (None, None)


def test_equal_notices_are_counted_not_repeated() -> None:
    repeats = RepeatFilter(period=60)
    key = ("192.0.2.1", "A", "B", "calling-ae")
    assert [repeats.count(key, now) for now in (0.0, 1.0, 2.0, 61.0, 62.0)] == [1, 0, 0, 3, 0]


def test_a_flood_of_different_notices_becomes_one() -> None:
    repeats = RepeatFilter(period=60, max_keys=4)
    assert sum(repeats.count((str(number),), 1.0) > 0 for number in range(1000)) == 5
