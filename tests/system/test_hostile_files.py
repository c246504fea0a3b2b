"""Files that break readers, sent three ways: each is answered with a named status, shown with its reason, and costs nobody else a thing."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from prioritizer.dicom.spool.part10 import valid_uid
from prioritizer.dicom.standard.contexts import COMPUTED_RADIOGRAPHY, TRANSFER_SYNTAXES
from tests.support.daemons import Daemon, phantom, phantom_study_uid, running_daemon, sections, sends
from tests.support.listener_process import RawPeer, command_set, p_data, proposed
from tests.support.pacs import SHARED

HOSTILE = SHARED / "dicom" / "hostile"
LAST_COMMAND, DATA, LAST_DATA = 0b11, 0b00, 0b10
ABORTED = -1
NAMED = {0x0000, 0x0117, 0x0122, 0xA900, ABORTED}
OFF = dict.fromkeys(("modality", "body_part", "view", "age", "image_type", "species", "likeness"), "off")
CR = COMPUTED_RADIOGRAPHY.encode()


@dataclass
class Siege:
    """The daemon, and what each file was answered: (way, file, SOP Instance UID, status)."""

    daemon: Daemon
    answers: list[tuple[str, str, str, int]] = field(default_factory=list)
    sent: list[dict[str, str]] = field(default_factory=list)

    @property
    def acknowledged(self) -> set[str]:
        return {uid for _, _, uid, status in self.answers if status == 0}


def as_transmitted(path: Path) -> tuple[bytes, str]:
    """The bytes behind the file meta information, and the syntax they claim."""
    raw = path.read_bytes()
    if raw[128:132] != b"DICM":
        return raw, str(ImplicitVRLittleEndian)
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pydicom.filereader.read_preamble(file, False)
            meta = pydicom.filereader._read_file_meta_info(file)
            syntax = str(meta.get("TransferSyntaxUID", ExplicitVRLittleEndian))
            return file.read(), syntax if syntax in {each.uid for each in TRANSFER_SYNTAXES} else str(ExplicitVRLittleEndian)
        except (OSError, ValueError, AttributeError, NotImplementedError):
            return raw[132:], str(ExplicitVRLittleEndian)


def value_of(data: bytes, number: int) -> bytes:
    """The value of (0008,number) in its usual place near the start, in either encoding; empty when it is not there."""
    at = data[:20_000].find(struct.pack("<HH", 8, number))
    if at < 0:
        return b""
    explicit = data[at + 4 : at + 6] == b"UI"
    length = struct.unpack_from("<H" if explicit else "<I", data, at + (6 if explicit else 4))[0]
    return data[at + 8 : at + 8 + length] if length < 1000 else b""


def disguised(data: bytes) -> bytes:
    """The same data set under the class of a computed radiograph where that fits in place: no other byte changes."""
    named = value_of(data, 0x16)
    return data.replace(named, CR.ljust(len(named), b"\0"), 1) if len(named) >= len(CR) else data


def status_of(port: int, data: bytes, syntax: str, uid: bytes) -> int:
    """The status of one C-STORE, ABORTED when the association ended instead."""
    pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)] or [b""]
    try:
        with RawPeer(port) as peer:
            peer.associate(proposed(1, COMPUTED_RADIOGRAPHY, syntax))
            peer.send(p_data(1, LAST_COMMAND, command_set(1, sop_class=CR, uid=uid)))
            for number, piece in enumerate(pieces, start=1):
                peer.send(p_data(1, LAST_DATA if number == len(pieces) else DATA, piece))
            kind, body = peer.pdu()
    except OSError:
        return ABORTED
    if kind != 4:
        return ABORTED
    at = body.index(struct.pack("<HHI", 0, 0x0900, 2))
    return int.from_bytes(body[at + 8 : at + 10], "little")


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    """Every scope rule off, so that as much as possible reaches the decoder; then everything is sent and settles."""
    paths = sorted(HOSTILE.glob("*.dcm"))
    if not paths:
        pytest.skip("the shared DICOM files are not here")
    peers = [{"ae_title": "MODALITY", "host": "127.0.0.1", "score_secondary_capture": True}]
    model = {"decode_timeout_s": 10}
    with running_daemon(tmp_path_factory.mktemp("siege"), sections(peers=peers, scope=OFF, model=model)) as daemon:
        siege = Siege(daemon)
        for path in paths:
            data, syntax = as_transmitted(path)
            for way, bytes_sent in (("as it is", data), ("as a radiograph", disguised(data))):
                uid = value_of(bytes_sent, 0x18).rstrip(b"\0 ") or b"1.2.3.4"
                status = status_of(daemon.port, bytes_sent, syntax, uid[:200])
                siege.answers.append((way, path.name, uid.decode("ascii", "replace"), status))
        done = daemon.cli_send(HOSTILE)
        siege.sent = [json.loads(line) for line in done.stdout.splitlines()]
        daemon.wait_settled()
        yield siege


def test_every_file_is_answered_with_a_named_status(siege: Siege) -> None:
    strange = [answer for answer in siege.answers if answer[3] not in NAMED and not 0xC000 <= answer[3] <= 0xCFFF]
    assert not strange
    assert len(siege.answers) > 100


def test_enough_is_acknowledged_to_put_the_stations_to_the_test(siege: Siege) -> None:
    assert len(siege.acknowledged) > 20


def test_every_acknowledged_file_is_in_the_ledger_with_a_state(siege: Siege) -> None:
    states = siege.daemon.instance_states()
    assert siege.acknowledged <= set(states)
    assert {state for state, _ in states.values()} <= {"SCORED", "INELIGIBLE", "FAILED"}


def test_nothing_is_unscored_without_a_sentence(siege: Siege) -> None:
    unscored = {uid: said for uid, (state, said) in siege.daemon.instance_states().items() if state != "SCORED"}
    assert unscored
    assert all(" " in said and len(said) > 10 for said in unscored.values()), unscored


def test_every_study_is_on_the_list_with_its_reason(siege: Siege) -> None:
    listed = {row["study_uid"]: row for row in siege.daemon.listed()}
    ledger = {told["study_uid"] for told in siege.daemon.studies()}
    assert ledger <= set(listed)
    assert all(row["ai_reason"] for row in listed.values() if row["ai_state"] in ("FAILED", "NOT_SCORED"))


def test_every_refusal_leaves_a_notice(siege: Siege) -> None:
    kinds = {notice["kind"] for notice in siege.daemon.notices()}
    assert {"quarantined", "refused-object"} <= kinds
    assert all(notice["reason"] for notice in siege.daemon.notices())


def test_the_sender_says_of_every_file_what_became_of_it(siege: Siege) -> None:
    assert len(siege.sent) == len([path for path in HOSTILE.rglob("*") if path.is_file()])
    assert all(told["said"] for told in siege.sent)


def test_no_patient_name_of_these_files_is_in_the_log_or_the_figures(siege: Siege) -> None:
    told = siege.daemon.log() + siege.daemon.get("/metrics")[1]
    assert not [name for name in patient_names() if name in told]


def patient_names() -> set[str]:
    """Names and their parts, as far as anybody can read them; short ones would be found by chance."""
    names: set[str] = set()
    for path in HOSTILE.glob("*.dcm"):
        with warnings.catch_warnings(), suppress(Exception):
            warnings.simplefilter("ignore")
            name = str(pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=["PatientName"]).PatientName)
            names |= {part[:200] for part in (name, *name.split("^")) if len(part) > 5}
    return names


def test_no_text_of_a_peer_became_a_path(siege: Siege) -> None:
    spool = siege.daemon.folder / "var" / "spool"
    held = [path.stem for path in (spool / "objects").rglob("*.dcm")]
    assert held
    assert all(valid_uid(stem) or len(stem) == 64 for stem in held)


def test_the_pages_show_it_all_escaped(siege: Siege) -> None:
    code, body = siege.daemon.get("/")
    assert code == 200
    assert "<script>" not in body
    for row in siege.daemon.listed():
        assert siege.daemon.get(f"/study/{row['study_uid']}")[0] == 200


def test_the_daemon_is_still_ready_and_the_next_good_film_is_scored(siege: Siege, tmp_path: Path) -> None:
    assert siege.daemon.get("/readyz")[0] == 200
    sends(siege.daemon, phantom(tmp_path, 1))
    siege.daemon.wait_scored(phantom_study_uid(1))


def test_no_station_met_a_fault_of_our_own(siege: Siege) -> None:
    assert siege.daemon.events("worker-fault") == []
    assert "Traceback" not in siege.daemon.log()
