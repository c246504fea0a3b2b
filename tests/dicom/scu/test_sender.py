"""Results reach real peers once, and every refusal is the right kind of no."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread, uid
from pynetdicom import AE, evt

from prioritizer.dicom.scu.back_off import next_attempt_delay
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.send_files import send_files
from prioritizer.dicom.scu.sender import Sender
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.errors import PermanentRefusal, Transient
from tests.support.pacs import Orthanc, end_server, free_port, shared_dicom

FILM = PhantomPatient(number=5, taken_at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC), rows=64, columns=56)


def to(port: int, ae_title: str = "PACS") -> Destination:
    return Destination(name="pacs", ae_title=ae_title, host="127.0.0.1", port=port)


class Peer:
    """A pynetdicom SCP that answers with the statuses it is given, then with Success."""

    def __init__(self, *answers: int, entity: AE) -> None:
        self.answers, self.associations, self.stored, self.port, self.entity = list(answers), 0, 0, free_port(), entity
        self.aborts_at = 0
        """The number of the C-STORE that it answers with an A-ABORT."""
        self.kept: list[tuple[int, str]] = []
        """Association and SOP Instance UID of what it answered with Success."""

    def on_store(self, event: evt.Event) -> int:
        self.stored += 1
        if self.stored == self.aborts_at:
            event.assoc.abort()
            return 0xA700
        answer = self.answers.pop(0) if self.answers else 0x0000
        if answer == 0x0000:
            self.kept.append((self.associations, str(event.request.AffectedSOPInstanceUID)))
        return answer

    def abort_all(self) -> None:
        """Every association dies, as when the peer restarts."""
        for association in self.entity.active_associations:
            association.abort()
            association.join(timeout=5)

    def on_accepted(self, event: evt.Event) -> None:
        self.associations += 1


@contextmanager
def peer(*answers: int, called: bool = False, limit: int = 10) -> Iterator[Peer]:
    entity = AE(ae_title="PACS")
    answering = Peer(*answers, entity=entity)
    entity.require_called_aet, entity.maximum_associations = called, limit
    entity.add_supported_context(uid.ComputedRadiographyImageStorage, [uid.ExplicitVRLittleEndian])
    handlers = [(evt.EVT_C_STORE, answering.on_store), (evt.EVT_ACCEPTED, answering.on_accepted)]
    entity.start_server(("127.0.0.1", answering.port), block=False, evt_handlers=handlers)
    try:
        yield answering
    finally:
        end_server(entity)


@pytest.fixture
def sender() -> Iterator[Sender]:
    sending = Sender(reply_seconds=5)
    yield sending
    sending.close()


def data_set(data: bytes) -> bytes:
    """What follows the file meta information."""
    return data[data.index(b"\x08\x00\x05\x00") :]


def instance_uid(data: bytes) -> str:
    return str(dcmread(BytesIO(data), stop_before_pixels=True).SOPInstanceUID)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.JPEG2000Lossless])
def test_storescp_receives_the_very_bytes(sender: Sender, storescp: tuple[int, Path], syntax: str):
    port, folder = storescp
    data = phantom_file(FILM, syntax)
    sender.send(to(port), data)
    sender.close()
    (received,) = folder.iterdir()
    assert data_set(received.read_bytes()) == data_set(data)


def test_several_objects_share_one_association(sender: Sender):
    with peer() as pacs:
        for number in range(4):
            sender.send(to(pacs.port), phantom_file(PhantomPatient(number=number, taken_at=FILM.taken_at, rows=16, columns=16)))
        assert (pacs.stored, pacs.associations) == (4, 1)
        sender.close()


@pytest.mark.parametrize("dies", ["between two objects", "in the second object"])
def test_an_association_that_died_is_opened_again_at_once(sender: Sender, dies: str):
    before, after = (phantom_file(replace(FILM, number=number)) for number in (6, 7))
    with peer() as pacs:
        sender.send(to(pacs.port), before)
        if dies == "between two objects":
            pacs.abort_all()
        else:
            pacs.aborts_at = 2
        sender.send(to(pacs.port), after)
        assert pacs.kept == [(1, instance_uid(before)), (2, instance_uid(after))]
        assert pacs.associations == 2
        sender.close()


def test_an_idle_association_is_released():
    with peer() as pacs:
        sending = Sender(idle_seconds=0)
        sending.send(to(pacs.port), phantom_file(FILM))
        sending.release_idle()
        sending.send(to(pacs.port), phantom_file(FILM))
        assert pacs.associations == 2
        sending.close()


@pytest.mark.parametrize("answer", [0xA700, 0xA701, 0x0110, 0x0213])
def test_a_peer_in_trouble_is_tried_again_later(sender: Sender, answer: int):
    with peer(answer) as pacs:
        with pytest.raises(Transient, match=f"0x{answer:04X}"):
            sender.send(to(pacs.port), phantom_file(FILM))
        assert pacs.stored == 1
        sender.send(to(pacs.port), phantom_file(FILM))
        sender.close()


@pytest.mark.parametrize("answer", [0xA900, 0xC000, 0xC123, 0x0122, 0x0124])
def test_a_refusal_for_good_is_parked_with_its_status(sender: Sender, answer: int):
    with peer(answer) as pacs:
        with pytest.raises(PermanentRefusal) as refused:
            sender.send(to(pacs.port), phantom_file(FILM))
        assert refused.value.status == answer
        sender.close()


@pytest.mark.parametrize("answer", [0xB000, 0xB006, 0xB007, 0x0111])
def test_stored_with_a_warning_or_already_there_counts_as_stored(sender: Sender, answer: int):
    with peer(answer) as pacs:
        sender.send(to(pacs.port), phantom_file(FILM))
        sender.close()


def test_a_syntax_the_peer_does_not_accept_is_refused_for_good(sender: Sender):
    with peer() as pacs:
        with pytest.raises(PermanentRefusal) as refused:
            sender.send(to(pacs.port), phantom_file(FILM, uid.JPEG2000Lossless))
        assert refused.value.status == 0x0122
        sender.close()


def test_a_wrong_ae_title_is_refused_for_good(sender: Sender):
    with peer(called=True) as pacs, pytest.raises(PermanentRefusal, match="alled AE"):
        sender.send(to(pacs.port, "WRONG"), phantom_file(FILM))


def test_a_full_peer_is_tried_again_later(sender: Sender):
    with peer(limit=1) as pacs:
        first = Sender()
        first.send(to(pacs.port), phantom_file(FILM))
        with pytest.raises(Transient):
            sender.send(to(pacs.port), phantom_file(FILM))
        first.close()


# pynetdicom leaves the socket of a refused connection to the garbage collector.
LEFT_SOCKET = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@LEFT_SOCKET
def test_a_closed_port_is_tried_again_later(sender: Sender):
    with pytest.raises(Transient, match="cannot be reached"):
        sender.send(to(free_port()), phantom_file(FILM))


def test_a_peer_that_accepts_and_says_nothing_is_tried_again_later():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sending = Sender(reply_seconds=0.5)
        with pytest.raises(Transient):
            sending.send(to(silent.getsockname()[1]), phantom_file(FILM))


def test_a_slow_destination_holds_up_only_itself():
    with socket.create_server(("127.0.0.1", 0)) as silent, peer() as pacs:
        sending = Sender(reply_seconds=3)

        def send_to_the_silent_one() -> None:
            with pytest.raises(Transient):
                sending.send(to(silent.getsockname()[1]), phantom_file(FILM))

        stuck = threading.Thread(target=send_to_the_silent_one)
        stuck.start()
        sending.send(to(pacs.port), phantom_file(FILM))
        assert stuck.is_alive()
        stuck.join()
        sending.close()


def test_what_is_no_part_10_file_is_refused_for_good(sender: Sender):
    with pytest.raises(PermanentRefusal):
        sender.send(to(free_port()), b"hello")


@LEFT_SOCKET
def test_echo_is_answered_by_orthanc_and_not_by_a_closed_port(sender: Sender, orthanc: Orthanc):
    sender.echo(to(orthanc.port, orthanc.ae_title))
    with pytest.raises(Transient):
        sender.echo(to(free_port()))


def test_orthanc_refuses_another_called_ae_title(sender: Sender, orthanc: Orthanc):
    with pytest.raises(PermanentRefusal):
        sender.echo(to(orthanc.port, "WRONG"))


def test_a_folder_is_sent_and_every_file_is_accounted_for(tmp_path: Path, orthanc: Orthanc):
    whole = phantom_file(FILM)
    bare = phantom_file(PhantomPatient(number=6, taken_at=FILM.taken_at, rows=16, columns=16), uid.ImplicitVRLittleEndian)
    (tmp_path / "a.dcm").write_bytes(whole)
    (tmp_path / "b-no-preamble").write_bytes(data_set(bare))
    (tmp_path / "c.txt").write_text("no image")
    (tmp_path / "d-empty").write_bytes(b"")
    outcomes = list(send_files([tmp_path], to(orthanc.port, orthanc.ae_title)))
    assert [(outcome.path.name, outcome.stored) for outcome in outcomes] == [
        ("c.txt", False), ("d-empty", False), ("a.dcm", True), ("b-no-preamble", True),
    ]  # fmt: skip
    assert "not DICOM" in outcomes[0].said


def test_every_everyday_file_is_stored_or_explained(storescp: tuple[int, Path]):
    port, _ = storescp
    files = shared_dicom("everyday")
    outcomes = list(send_files(files, to(port)))
    assert {outcome.path for outcome in outcomes} == set(files)
    assert all("odd number" in outcome.said for outcome in outcomes if not outcome.stored)
    assert sum(outcome.stored for outcome in outcomes) > 30


@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_delay_grows_from_seconds_to_a_quarter_of_an_hour(attempts: int, rng: random.Random):
    delay = next_attempt_delay(attempts, rng)
    assert 5 <= delay <= 900
    if attempts > 10:
        assert delay >= 450


def test_two_results_do_not_come_back_in_the_same_second():
    rng = random.Random(1)
    assert len({round(next_attempt_delay(6, rng)) for _ in range(20)}) > 10
