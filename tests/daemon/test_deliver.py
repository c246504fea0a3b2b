"""A result reaches every PACS that takes Secondary Captures, in the encoding that it accepts, and one odd answer parks none."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from pydicom import uid
from pynetdicom import AE, evt
from rich.console import Console

from prioritizer.cli import print_worklist
from prioritizer.config.settings import Settings
from prioritizer.daemon.deliver import DeliverWorker
from prioritizer.daemon.publish import PublishWorker
from prioritizer.db.activity import queues
from prioritizer.db.worklist import counts, rows
from prioritizer.dicom.read.attributes import sha256_of
from prioritizer.dicom.read.sandboxed import ModelInput
from prioritizer.dicom.result import encodings
from prioritizer.dicom.result.secondary_capture import CaptureFacts, CaptureObject
from prioritizer.dicom.scu.back_off import REFUSAL_MINUTES
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import Sender
from prioritizer.dicom.spool.spool import Spool
from prioritizer.dicom.stand_ins.phantom_files import phantom_file
from prioritizer.errors import PermanentRefusal, Unprocessable
from prioritizer.inference.bundle import open_bundle
from prioritizer.selfcheck import doctor
from prioritizer.selfcheck.check import _destination
from tests.support.capture_objects import FACTS, FILM, built, errors_of
from tests.support.ledgers import NOW, film, publish, receive, result_of, score_next
from tests.support.pacs import Orthanc, end_server, free_port
from tests.support.spool_files import receipt

SC, CR, ECHO = uid.SecondaryCaptureImageStorage, uid.ComputedRadiographyImageStorage, uid.UID("1.2.840.10008.1.1")
JPEG, EXPLICIT, IMPLICIT = uid.JPEGBaseline8Bit, uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian


@dataclass
class Pacs:
    """What a receiver was sent, and with what it answers."""

    port: int = field(default_factory=free_port)
    answers: list[int] = field(default_factory=list)
    got: list[pydicom.Dataset] = field(default_factory=list)

    def keep(self, event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        answer = self.answers.pop(0) if self.answers else 0
        if answer == 0:
            self.got.append(dataset)
        return answer

    @property
    def destination(self) -> Destination:
        return Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=self.port)


@contextmanager
def pacs(*syntaxes: str, classes: tuple[str, ...] = (ECHO, SC), answers: tuple[int, ...] = ()) -> Iterator[Pacs]:
    receiver, entity = Pacs(answers=list(answers)), AE(ae_title="PACS")
    for sop_class in classes:
        entity.add_supported_context(sop_class, [IMPLICIT] if sop_class == ECHO else list(syntaxes))
    entity.start_server(("127.0.0.1", receiver.port), block=False, evt_handlers=[(evt.EVT_C_STORE, receiver.keep)])
    try:
        yield receiver
    finally:
        end_server(entity)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.dcm"
    path.write_bytes(phantom_file(FILM))
    return path


@pytest.fixture
def sender() -> Iterator[Sender]:
    sending = Sender(reply_seconds=5)
    yield sending
    sending.close()


# --- the encoding follows what is accepted --------------------------------------------------------------------------


ACCEPTING = {
    "all": (JPEG, EXPLICIT, IMPLICIT),
    "no JPEG": (EXPLICIT, IMPLICIT),
    "explicit alone": (EXPLICIT,),
    "implicit alone": (IMPLICIT,),
    "JPEG and implicit": (JPEG, IMPLICIT),
}


@pytest.mark.parametrize("encoding", ["jpeg", "native"])
@pytest.mark.parametrize("accepted", ACCEPTING)
def test_a_result_arrives_whatever_the_pacs_accepts(source: Path, sender: Sender, encoding: str, accepted: str):
    result = built(source, replace(FACTS, encoding=encoding))
    with pacs(*ACCEPTING[accepted]) as receiver:
        sender.send_result(receiver.destination, result.data)
        sender.close()
        (came,) = receiver.got
    stored = pydicom.dcmread(BytesIO(result.data))
    assert came.file_meta.TransferSyntaxUID in ACCEPTING[accepted]
    assert came.SOPInstanceUID == stored.SOPInstanceUID
    assert {one.tag for one in came} == {one.tag for one in stored}
    assert came.PatientName == stored.PatientName
    assert np.abs(came.pixel_array.astype(int) - stored.pixel_array.astype(int)).max() <= (2 if encoding == "jpeg" else 0)


@pytest.mark.parametrize("syntax", encodings.NATIVE_FORMS)
@pytest.mark.parametrize("encoding", ["jpeg", "native"])
def test_every_form_is_valid_and_says_that_it_was_lossy(source: Path, tmp_path: Path, encoding: str, syntax: uid.UID):
    result = built(source, replace(FACTS, encoding=encoding))
    data = encodings.in_form(result.data, syntax)
    assert errors_of(replace(result, data=data), tmp_path) == []
    form = pydicom.dcmread(BytesIO(data))
    assert (form.PhotometricInterpretation, form.LossyImageCompression) == ("RGB", "01" if encoding == "jpeg" else "00")
    assert form.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert form.file_meta.MediaStorageSOPInstanceUID == form.SOPInstanceUID == result.sop_instance_uid


def test_odd_bytes_of_the_patient_stay_as_they_are_in_every_form(tmp_path: Path):
    path = tmp_path / "odd.dcm"
    path.write_bytes(phantom_file(FILM).replace(b"PHANTOM^THREE ", b"\xc4\xe9^\xff\x00\x1b[31m^   "))
    data = encodings.in_form(built(path).data, IMPLICIT)
    assert b"\x10\x00\x10\x00\x0e\0\0\0\xc4\xe9^\xff\x00\x1b[31m^   " in data


@pytest.mark.parametrize("form", encodings.NATIVE_FORMS)
def test_storescp_and_orthanc_take_every_form(source: Path, sender: Sender, storescp: tuple[int, Path], orthanc: Orthanc, form: uid.UID):
    data = encodings.in_form(built(source).data, form)
    sender.send(Destination(name="scp", ae_title="SCP", host="127.0.0.1", port=storescp[0]), data)
    sender.send(Destination(name="orthanc", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.port), data)


def test_a_jpeg_cannot_be_made_of_an_uncompressed_result_and_the_refusal_names_what_was_proposed(source: Path, sender: Sender):
    result = built(source, replace(FACTS, encoding="native"))
    with (
        pacs(JPEG) as receiver,
        pytest.raises(PermanentRefusal, match=r"Secondary Capture Image Storage in JPEG Baseline.*Explicit VR Little Endian, Implicit"),
    ):
        sender.send_result(receiver.destination, result.data)
    sender.close()


@pytest.mark.parametrize("tag", [b"\x20\x00\x0d\x00UI", b"\x20\x00\x0e\x00UI"])
def test_a_stored_result_without_valid_uids_is_never_sent(source: Path, sender: Sender, tag: bytes):
    data = built(source).data
    at = data.index(tag) + 8
    with pacs(EXPLICIT) as receiver:
        with pytest.raises(Unprocessable):
            sender.send_result(receiver.destination, data[:at] + b"a" + data[at + 1 :])
        assert receiver.got == []


@pytest.mark.parametrize("cut", [0, 100, 140, 200, 1000, 3000])
def test_a_damaged_result_is_refused_by_name(source: Path, cut: int):
    data = built(source).data[:cut]
    with pytest.raises(Unprocessable):
        encodings.in_form(data, EXPLICIT)


# --- check and doctor prove that a result would be taken ------------------------------------------------------------


def said_of(receiver: Pacs, **publish_: str) -> tuple[bool, str]:
    there = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": receiver.port}
    settings = Settings(destinations=(there,), publish=publish_)

    proof = _destination(settings.destinations[0], settings)
    return proof.ok, proof.said


def test_check_names_what_was_proposed_where_a_pacs_takes_no_result():
    with pacs(EXPLICIT, IMPLICIT, classes=(ECHO, CR)) as receiver:
        ok, said = said_of(receiver)
    assert not ok
    assert "answers C-ECHO and accepts no result: Secondary Capture Image Storage in JPEG Baseline (Process 1), Explicit" in said


def test_check_says_in_what_a_pacs_takes_results():
    with pacs(IMPLICIT) as receiver:
        assert said_of(receiver)[0]
        assert said_of(receiver, encoding="native")[1].endswith("takes results in Implicit VR Little Endian")
    with pacs(JPEG) as receiver:
        assert said_of(receiver)[0]
        ok, said = said_of(receiver, encoding="native")
        assert not ok
        assert 'publish.encoding is "native"' in said


def test_check_asks_for_no_results_where_none_are_sent_and_for_no_echo_where_results_are_taken():
    with pacs(EXPLICIT, classes=(ECHO, CR)) as receiver:
        assert said_of(receiver, overlay="off")[0]
    with pacs(EXPLICIT, classes=(SC,)) as receiver:
        assert said_of(receiver)[0]


def test_check_names_what_was_proposed_where_nothing_at_all_is_accepted():
    with pacs(EXPLICIT, classes=(CR,)) as receiver:
        ok, said = said_of(receiver)
    assert not ok
    assert "Secondary Capture Image Storage in" in said


def test_doctor_stops_at_a_pacs_that_takes_no_result():
    with pacs(EXPLICIT, classes=(ECHO, CR)) as receiver:
        there = Settings(destinations=({"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": receiver.port},)).destinations[0]
        proofs = list(doctor.walk(doctor.destination_chain(there, "PRIORITIZER", send=False)))
    assert [proof.ok for proof in proofs] == [True, True, True, False]
    assert "accepts no result" in proofs[-1].said


# --- what is tried again, and for how long --------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[sa.Engine]:
    from prioritizer.db.schema import connect, migrations

    engine = connect.open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    migrations.upgrade(engine)
    yield engine
    engine.dispose()


@dataclass
class Answering:
    """A sender whose destination answers by a list."""

    answers: list[Exception | None]

    def send_result(self, destination: Destination, data: bytes) -> None:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer

    def release_idle(self) -> None:
        pass


def delivering_station(ledger: sa.Engine, *answers: Exception | None) -> DeliverWorker:
    receive(ledger, film(1, "1.2.3"))
    score_next(ledger, 0.2)
    publish(ledger)
    there = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    return DeliverWorker(engine=ledger, sender=Answering(list(answers)), destination=there, worker="w", rng=random.Random(1))


def make_due(ledger: sa.Engine) -> timedelta:
    """Let the waiting delivery be due now; returns how long it would have waited."""
    (row,) = rows.unfinished_deliveries(ledger)
    assert row.not_before is not None
    with ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE deliveries SET not_before = NULL")
    return row.not_before - datetime.now(UTC)


REFUSED = PermanentRefusal(0xC000, "pacs: the peer cannot understand the data set (0xC000)")


def test_one_odd_answer_parks_no_result(ledger: sa.Engine):
    station = delivering_station(ledger, REFUSED, None)
    assert station.step()
    (row,) = rows.unfinished_deliveries(ledger)
    assert (row.state, row.reason_text) == (
        "PENDING",
        f"refused, 1 of {len(REFUSAL_MINUTES) + 1} tries: pacs: the peer cannot understand the data set (0xC000)",
    )
    make_due(ledger)
    assert station.step()
    assert [row.state for row in rows.unfinished_deliveries(ledger, "1.2.3")] == ["SENT"]


def test_a_result_that_is_refused_for_more_than_a_day_is_parked_with_its_reason(ledger: sa.Engine):
    station = delivering_station(ledger, *[REFUSED] * 20)
    waited = timedelta(0)
    for _ in REFUSAL_MINUTES:
        assert station.step()
        waited += make_due(ledger)
    assert waited > timedelta(hours=24)
    assert station.step()
    (row,) = rows.unfinished_deliveries(ledger)
    assert row.state == "REJECTED"
    assert "0xC000" in row.reason_text
    assert counts.counts(ledger).rejected == 1


def test_what_must_not_be_sent_is_parked_at_once(ledger: sa.Engine):
    assert delivering_station(ledger, Unprocessable("uid", "the stored result has no valid UID")).step()
    assert [row.state for row in rows.unfinished_deliveries(ledger)] == ["REJECTED"]


# --- building -------------------------------------------------------------------------------------------------------


class Broken:
    """A renderer that fails in a way nobody foresaw, so often, then builds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.facts = list(errors), list[CaptureFacts]()

    def model_input(self, path: Path) -> ModelInput:
        raise NotImplementedError

    def capture(self, path: Path, saliency: np.ndarray | None, facts: CaptureFacts) -> CaptureObject:
        self.facts.append(facts)
        if self.errors:
            raise self.errors.pop(0)
        made = result_of("2.25.7")
        return CaptureObject(sop_instance_uid=made.sop_instance_uid, sop_class_uid=SC, transfer_syntax_uid=EXPLICIT, data=made.data)


def publishing(ledger: sa.Engine, tmp_path: Path, renderer: Broken, zone: str = "") -> PublishWorker:
    spool = Spool(tmp_path / "spool")
    spool.store(spool.begin(receipt("1.2.3.1")))
    (path,) = spool.inbox()
    receive(ledger, film(1, "1.2.3", sha256=sha256_of(path)))
    score_next(ledger, 0.2)
    return PublishWorker(
        engine=ledger, spool=spool, bundle=open_bundle(None), renderer=renderer,
        settings=Settings(site={"name": "test", "stage": "active", "time_zone": zone}), software_version="1", worker="w",
        rng=random.Random(1),
    )  # fmt: skip


def test_nothing_is_built_from_a_file_that_is_not_the_one_that_was_scored(ledger: sa.Engine, tmp_path: Path):
    renderer = Broken()
    station = publishing(ledger, tmp_path, renderer)
    (path,) = station.spool.inbox()
    path.write_bytes(path.read_bytes() + b"other")
    assert station.step()
    (row,) = queues.unpublished(ledger, NOW, 10)
    assert (row.again, renderer.facts) == (True, [])
    assert "changed since it arrived" in row.reason_text


@pytest.mark.parametrize("error", [ZeroDivisionError("Mustermann"), RecursionError(), pydicom.errors.BytesLengthException("Mustermann")])
def test_whatever_goes_wrong_in_building_is_said_on_the_row_and_tried_again(
    ledger: sa.Engine, tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
):
    station = publishing(ledger, tmp_path, Broken(*[error] * 5))
    for _ in range(5):
        assert station.step()
        (row,) = queues.unpublished(ledger, NOW, 10)
        assert row.again
        assert type(error).__name__ in row.reason_text
        assert "Mustermann" not in row.reason_text
        assert not station.step(), "it is not due yet"
        with ledger.begin() as tx:
            tx.exec_driver_sql("UPDATE studies SET not_before = NULL")
    assert station.step()
    assert queues.unpublished(ledger, NOW, 10) == []
    assert [row.result_uid for row in rows.unfinished_deliveries(ledger, "1.2.3")] == []


def test_the_time_of_a_result_is_that_of_its_images_receipt_in_the_zone_of_the_site(ledger: sa.Engine, tmp_path: Path):
    renderer = Broken()
    assert publishing(ledger, tmp_path, renderer, zone="Asia/Kolkata").step()
    (facts,) = renderer.facts
    assert facts.content_time == NOW
    assert facts.content_time.utcoffset() == timedelta(hours=5, minutes=30)


def test_status_and_why_say_that_a_study_has_no_result_and_why(ledger: sa.Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    refused = Unprocessable("uid", "the source image has no valid Study Instance UID, so that its result cannot be filed")
    station = publishing(ledger, tmp_path, Broken(refused, refused))
    assert station.step()
    with ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE studies SET not_before = NULL")
    assert station.step()
    out = Console(width=400)
    print_worklist.show_status(ledger, Settings(), as_json=False, out=out)
    print_worklist.show_why(ledger, "1.2.3", as_json=False, out=out)
    told = capsys.readouterr().out
    assert "no result   1.2.3: its result object could not be built: the source image has no valid Study Instance UID" in told
    assert "\nno result: its result object could not be built" in told
    assert "prioritizer: no result is sent" in told
    assert [row.state for row in rows.unfinished_deliveries(ledger, "1.2.3")] == []


def test_the_wait_after_a_refusal_is_kept_up_to_eight_hours(ledger: sa.Engine):
    station = delivering_station(ledger, *[REFUSED] * 9)
    waits = []
    for _ in range(7):
        assert station.step()
        assert not station.step(), "nothing is tried before its time"
        waits.append(make_due(ledger))
    assert waits[-1] > timedelta(hours=4)
