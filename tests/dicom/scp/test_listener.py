"""The listener beside real peers: what it acknowledges is on disk, what it refuses has a named status."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import Verification

from prioritizer.dicom.read.attributes import arrival_of
from prioritizer.dicom.scp.admission import ListenerSettings, PeerPolicy, PeerRule, plain_address
from prioritizer.dicom.spool.part10 import PREAMBLE, read_receipt
from prioritizer.dicom.standard import contexts, status
from prioritizer.dicom.standard.contexts import COMPUTED_RADIOGRAPHY
from prioritizer.errors import ConfigError
from tests.support import radiograph_files
from tests.support.listener_process import (
    DX,
    REPOSITORY,
    TRUSTED,
    ListenerProcess,
    RawPeer,
    command_set,
    p_data,
    proposed,
    radiograph,
    request,
    storescu,
)
from tests.support.pacs import program
from tests.support.spool_files import kept_beside

if TYPE_CHECKING:
    from collections.abc import Iterator


def data_set_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, False)
        pydicom.filereader._read_file_meta_info(file)
        return file.read()


def test_the_ledger_is_told_of_an_echo_and_not_of_every_one(listener: ListenerProcess) -> None:
    for _ in range(3):
        subprocess.run([program("echoscu"), "-aet", "MODALITY", "-aec", "PRIORITIZER", "127.0.0.1", str(listener.port)], check=True)
    (notice,) = listener.notices(1)
    assert (notice["kind"], notice["calling_ae"], notice["address"]) == ("echo", "MODALITY", "127.0.0.1")


def test_a_dcmtk_echo_is_answered(listener: ListenerProcess) -> None:
    command = [program("echoscu"), "-v", "-aet", "MODALITY", "-aec", "PRIORITIZER", "127.0.0.1", str(listener.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("syntax", "option"),
    [
        (ExplicitVRLittleEndian, "-xe"),
        (ImplicitVRLittleEndian, "-xi"),
        (ExplicitVRBigEndian, "-xb"),
        (DeflatedExplicitVRLittleEndian, "-xd"),
    ],
)
def test_every_plain_transfer_syntax_arrives_byte_for_byte(listener: ListenerProcess, tmp_path: Path, syntax: str, option: str) -> None:
    path = tmp_path / "image.dcm"
    uid = radiograph(path, syntax=ExplicitVRLittleEndian if syntax == ExplicitVRBigEndian else syntax)
    if syntax == ExplicitVRBigEndian:
        subprocess.run([program("dcmconv"), "+tb", str(path), str(path)], check=True)
    said = storescu(listener.port, path, options=("-R", option))
    stored = listener.spool.find(uid)
    assert stored is not None, said
    assert read_receipt(stored).transfer_syntax_uid == syntax
    if syntax != DeflatedExplicitVRLittleEndian:
        assert data_set_bytes(stored) == data_set_bytes(path)
    assert pydicom.dcmread(stored).PixelData == pydicom.dcmread(path).PixelData


EXPLICIT, IMPLICIT, BIG = map(str, (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian))
FILE_META = radiograph_files.receipt()[len(PREAMBLE) :]
LANGUAGE = struct.pack("<HHL", 0x0008, 0x0100, 4) + b"eng "
LANGUAGES = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + LANGUAGE + struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
IN_FRONT = {
    "file meta information before an implicit data set": (IMPLICIT, FILE_META),
    "file meta information before an explicit data set": (EXPLICIT, FILE_META),
    "file meta information before a big endian data set": (BIG, FILE_META),
    "an implicit sequence as UN, without lengths": (EXPLICIT, struct.pack("<HH2sHL", 8, 6, b"UN", 0, 0xFFFFFFFF) + LANGUAGES),
    "a VR that nobody knows yet": (EXPLICIT, struct.pack("<HH2sHL", 8, 7, b"ZZ", 0, 8) + bytes(8)),
    "a group that stands too early": (EXPLICIT, struct.pack("<HH2sH", 0x0018, 0x1400, b"LO", 4) + b"EVE "),
}
"""What devices write in front of (0008,0008) Image Type, with the transfer syntax of the data set (PS3.5 6.2, 6.2.2)."""


@pytest.mark.parametrize("name", IN_FRONT)
def test_an_image_that_can_be_read_is_acknowledged_whatever_stands_in_front(listener: ListenerProcess, name: str) -> None:
    syntax, front = IN_FRONT[name]
    data_set = front + radiograph_files.radiograph(syntax)[len(radiograph_files.receipt(syntax)) :]
    with RawPeer(listener.port) as peer:
        peer.associate(proposed(1, COMPUTED_RADIOGRAPHY, syntax))
        peer.send(p_data(1, 0b11, command_set(1, sop_class=COMPUTED_RADIOGRAPHY.encode())) + p_data(1, 0b10, data_set))
        assert peer.status() == 0x0000
    instance, fault = arrival_of(listener.spool.find("1.2.3.4") or Path())
    assert (instance.patient_id, fault) == ("P1", "")


def test_a_stored_file_names_its_sender_receiver_time_and_address(listener: ListenerProcess, tmp_path: Path) -> None:
    uid = radiograph(tmp_path / "a.dcm")
    storescu(listener.port, tmp_path / "a.dcm")
    listener.wait_for("stored", sop_instance_uid=uid)
    (path,) = listener.spool.inbox()
    receipt = read_receipt(path)
    meta = pydicom.dcmread(path).file_meta
    assert (receipt.calling_ae, receipt.called_ae, receipt.address) == ("MODALITY", "PRIORITIZER", "127.0.0.1")
    assert (meta.SourceApplicationEntityTitle, meta.ReceivingApplicationEntityTitle) == ("MODALITY", "PRIORITIZER")
    assert receipt.sop_instance_uid == meta.MediaStorageSOPInstanceUID == uid


def test_dcmtk_finds_no_fault_in_our_file_meta(listener: ListenerProcess, tmp_path: Path) -> None:
    uid = radiograph(tmp_path / "a.dcm")
    storescu(listener.port, tmp_path / "a.dcm")
    done = subprocess.run([program("dcmdump"), str(listener.spool.find(uid))], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_many_files_of_one_dcmsend_association_are_all_kept(listener: ListenerProcess, tmp_path: Path) -> None:
    uids = {radiograph(tmp_path / f"{number}.dcm", size=300_000 + 8192 * number) for number in range(8)}
    command = [program("dcmsend"), "-aet", "MODALITY", "-aec", "PRIORITIZER", "127.0.0.1", str(listener.port)]
    subprocess.run([*command, *map(str, tmp_path.glob("*.dcm"))], check=True, timeout=30)
    assert {path.stem for path in listener.spool.inbox()} == uids


def test_pynetdicom_as_sender_gets_success_and_releases(listener: ListenerProcess, tmp_path: Path) -> None:
    uid = radiograph(tmp_path / "a.dcm")
    sender = AE("MODALITY")
    sender.add_requested_context(DX, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    sender.add_requested_context(Verification)
    association = sender.associate("127.0.0.1", listener.port, ae_title="PRIORITIZER")
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    assert association.send_c_store(tmp_path / "a.dcm").Status == 0x0000
    association.release()
    assert association.is_released
    assert listener.spool.find(uid)


def test_the_same_bytes_again_change_nothing(listener: ListenerProcess, tmp_path: Path) -> None:
    uid = radiograph(tmp_path / "a.dcm")
    storescu(listener.port, tmp_path / "a.dcm")
    said = storescu(listener.port, tmp_path / "a.dcm")
    assert "Success" in said
    listener.wait_for("stored", sop_instance_uid=uid, outcome="duplicate")
    assert len(list(listener.spool.inbox())) == 1
    assert not listener.spool.notices()


def test_other_bytes_under_the_same_uid_are_kept_as_a_conflict(listener: ListenerProcess, tmp_path: Path) -> None:
    uid = radiograph(tmp_path / "a.dcm", fill=1)
    radiograph(tmp_path / "b.dcm", uid=uid, fill=2)
    storescu(listener.port, tmp_path / "a.dcm")
    first = listener.spool.find(uid)
    assert first
    before = first.read_bytes()
    assert "Success" in storescu(listener.port, tmp_path / "b.dcm")
    assert first.read_bytes() == before
    ((conflicting, path),) = kept_beside(listener.spool)
    assert conflicting == uid
    assert data_set_bytes(path) == data_set_bytes(tmp_path / "b.dcm")


def test_a_stranger_is_rejected_and_the_notice_says_who_knocked(listener: ListenerProcess, tmp_path: Path) -> None:
    radiograph(tmp_path / "a.dcm")
    said = storescu(listener.port, tmp_path / "a.dcm", calling="STRANGER")
    assert "Calling AE Title Not Recognized" in said
    (notice,) = listener.notices(1)
    assert (notice["kind"], notice["code"]) == ("refused-association", "calling-ae")
    assert (notice["calling_ae"], notice["called_ae"], notice["address"]) == ("STRANGER", "PRIORITIZER", "127.0.0.1")


def test_a_wrong_called_title_is_rejected_by_name(listener: ListenerProcess, tmp_path: Path) -> None:
    radiograph(tmp_path / "a.dcm")
    assert "Called AE Title Not Recognized" in storescu(listener.port, tmp_path / "a.dcm", called="OTHER")


def test_a_listed_title_from_another_address_is_rejected(tmp_path: Path) -> None:
    radiograph(tmp_path / "a.dcm")
    process = ListenerProcess(tmp_path / "spool", peers=(PeerRule(ae_title="MODALITY", host="192.0.2.7"),))
    try:
        assert "Calling AE Title Not Recognized" in storescu(process.port, tmp_path / "a.dcm")
        assert process.notices(1)[0]["code"] == "address"
    finally:
        process.kill()


def test_a_listed_peer_that_may_not_send_hears_0124(tmp_path: Path) -> None:
    radiograph(tmp_path / "a.dcm")
    process = ListenerProcess(tmp_path / "spool", peers=(PeerRule(ae_title="MODALITY", host="127.0.0.0/8", may_send=False),))
    try:
        said = storescu(process.port, tmp_path / "a.dcm")
        assert "0x124" in said
        assert not list(process.spool.inbox())
    finally:
        process.kill()


def test_below_the_watermark_the_sender_hears_a700_and_keeps_its_copy(tmp_path: Path) -> None:
    radiograph(tmp_path / "a.dcm")
    process = ListenerProcess(tmp_path / "spool", min_free_bytes=1 << 60)
    try:
        assert "OutOfResources" in storescu(process.port, tmp_path / "a.dcm").replace(" ", "")
        assert process.notices(1)[0]["status"] == 0xA700
        assert not list(process.spool.inbox())
    finally:
        process.kill()


def test_a_new_peer_list_on_standard_input_admits_at_once(listener: ListenerProcess, tmp_path: Path) -> None:
    uid = radiograph(tmp_path / "a.dcm")
    listener.say('{"peers": [{"ae_title": "NEWCOMER", "host": "127.0.0.1"}]}')
    listener.wait_for("reloaded", peers=1)
    storescu(listener.port, tmp_path / "a.dcm", calling="NEWCOMER")
    assert listener.spool.find(uid)


def test_a_mistyped_peer_list_leaves_the_old_one_in_force(listener: ListenerProcess, tmp_path: Path) -> None:
    uid = radiograph(tmp_path / "a.dcm")
    listener.say('{"peers": [{"ae_titel": "MODALITY"}]}')
    listener.wait_for("fault")
    storescu(listener.port, tmp_path / "a.dcm")
    assert listener.spool.find(uid)


@pytest.mark.parametrize("ahead", [0, 1, 6, 7, None])
def test_sigterm_lets_a_message_under_way_finish_and_begins_none_that_came_behind_it(
    listener: ListenerProcess, tmp_path: Path, ahead: int | None
) -> None:
    radiograph(tmp_path / "a.dcm", uid="1.2.3.4")
    data_set = data_set_bytes(tmp_path / "a.dcm")
    with RawPeer(listener.port) as peer:
        peer.associate(proposed(1, DX))
        peer.send(p_data(1, 0b11, command_set(1)) + p_data(1, 0b00, data_set[:100]))
        listener.wait_for("counters", associations=1)
        listener.terminate()
        time.sleep(0.2)
        following = p_data(1, 0b11, command_set(1, uid=b"1.2.3.5")) + p_data(1, 0b10, data_set.replace(b"1.2.3.4", b"1.2.3.5"))
        peer.send(p_data(1, 0b10, data_set[100:]) + following[:ahead])
        assert peer.status() == 0x0000
        assert peer.pdu()[0] == 7
    assert listener.exit_code() == 0
    assert listener.spool.find("1.2.3.4")
    assert not listener.spool.find("1.2.3.5")


def test_end_of_input_stops_the_process_and_its_idle_associations(listener: ListenerProcess) -> None:
    with RawPeer(listener.port) as peer:
        peer.associate()
        listener.close_input()
        assert peer.pdu()[0] == 7
    assert listener.exit_code() == 0


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(listener: ListenerProcess, tmp_path: Path) -> None:
    radiograph(tmp_path / "a.dcm", uid="1.2.3.9000", size=8192 * 20)
    template = data_set_bytes(tmp_path / "a.dcm")
    acknowledged: list[str] = []

    def send_until_cut(sender: int) -> None:
        with RawPeer(listener.port) as peer:
            peer.associate(proposed(1, DX))
            for number in range(1000):
                uid = f"1.2.3.{sender}{number:03d}"
                data = template.replace(b"1.2.3.9000", uid.encode())
                peer.send(p_data(1, 0b11, command_set(1, uid=uid.encode())) + b"".join(_fragments(1, data, 131_066)))
                if peer.status() == 0x0000:
                    acknowledged.append(uid)

    with ThreadPoolExecutor(4) as senders:
        running = [senders.submit(send_until_cut, sender) for sender in range(1, 5)]
        while len(acknowledged) < 30:
            time.sleep(0.005)
        os.kill(listener.pid, signal.SIGKILL)
        for each in running:
            assert each.exception() is not None
    for uid in acknowledged:
        assert data_set_bytes(listener.spool.find(uid) or Path()) == template.replace(b"1.2.3.9000", uid.encode())


def test_the_listener_loads_no_dicom_library_no_database_and_no_arrays() -> None:
    heavy = {"pydicom", "pynetdicom", "numpy", "sqlalchemy", "pydantic", "fastapi", "torch", "openvino", "logging"}
    program = f"import sys, prioritizer.dicom.scp.listener; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_a_second_listener_on_the_same_port_ends_with_a_fault_and_sweeps_nothing(listener: ListenerProcess) -> None:
    half = listener.spool.partial / "half"
    half.write_bytes(b"under way")
    settings = ListenerSettings(spool=str(listener.spool.root), port=listener.port, peers=(TRUSTED,))
    command = [sys.executable, "-m", "prioritizer.dicom.scp.listener"]
    done = subprocess.run(command, cwd=REPOSITORY, input=settings.to_json() + "\n", capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, json.loads(done.stdout)["event"]) == (2, "fault")
    assert half.exists()


@pytest.mark.parametrize("close", [False, True], ids=["full pipe", "broken pipe"])
def test_nobody_reading_the_events_never_stops_intake(tmp_path: Path, close: bool) -> None:
    process = ListenerProcess(tmp_path / "spool", counters_seconds=0.0005)
    try:
        process.read_no_more(close=close)
        time.sleep(0.5)
        uid = radiograph(tmp_path / "a.dcm")
        storescu(process.port, tmp_path / "a.dcm")
        assert process.spool.find(uid)
    finally:
        process.kill()


def test_listening_beyond_this_machine_without_peers_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="without any peer"):
        ListenerSettings.from_json(ListenerSettings(spool="s", host="0.0.0.0").to_json())
    assert ListenerSettings.from_json(ListenerSettings(spool="s", host="0.0.0.0", peers=(TRUSTED,)).to_json()).peers == (TRUSTED,)


def test_a_disk_that_fills_in_the_middle_of_a_film_is_answered_a700_and_the_next_film_stored(
    listener: ListenerProcess, tmp_path: Path
) -> None:
    radiograph(tmp_path / "large.dcm", uid="1.2.3.4", size=8192 * 300)
    data = data_set_bytes(tmp_path / "large.dcm")
    limits = resource.prlimit(listener.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(listener.pid, resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    with RawPeer(listener.port) as peer:
        peer.associate(proposed(1, DX))
        message = p_data(1, 0b11, command_set(1)) + b"".join(_fragments(1, data, 100_000))
        peer.send(message)
        assert peer.status() == 0xA700
        assert not list(listener.spool.partial.iterdir())
        resource.prlimit(listener.pid, resource.RLIMIT_FSIZE, limits)
        peer.send(message)
        assert peer.status() == 0x0000
    assert data_set_bytes(listener.spool.find("1.2.3.4") or Path()) == data


def _fragments(context_id: int, data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield p_data(context_id, 0b10 if at + size >= len(data) else 0b00, data[at : at + size])


@pytest.mark.parametrize("size", [200, 16_378, 131_066])
def test_the_stored_data_set_equals_what_pynetdicom_stores(
    listener: ListenerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    radiograph(tmp_path / "a.dcm", uid="1.2.3.4", size=8192 * 40)
    data = data_set_bytes(tmp_path / "a.dcm")
    with pynetdicom_receiver(tmp_path / "theirs.dcm", monkeypatch) as port:
        for receiver in (port, listener.port):
            with RawPeer(receiver) as peer:
                peer.associate(proposed(1, DX))
                peer.send(p_data(1, 0b11, command_set(1)) + b"".join(_fragments(1, data, size)))
                assert peer.status() == 0x0000
    assert data_set_bytes(listener.spool.find("1.2.3.4") or Path()) == data_set_bytes(tmp_path / "theirs.dcm") == data


@contextmanager
def pynetdicom_receiver(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The stock chunked receive of pynetdicom, as the oracle."""
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", True)

    def store(event: Any) -> int:
        shutil.copy(event.dataset_path, copy)
        return 0x0000

    receiver = AE("PRIORITIZER")
    receiver.maximum_pdu_size = 131_072
    receiver.add_supported_context(DX, [ExplicitVRLittleEndian])
    server = receiver.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def test_orthanc_forwards_an_instance_to_us(listener: ListenerProcess, tmp_path: Path) -> None:
    uid = radiograph(tmp_path / "a.dcm", size=8192 * 40)
    with orthanc(tmp_path, listener.port) as url:
        told = json.loads(_post(f"{url}/instances", (tmp_path / "a.dcm").read_bytes()))
        _post(f"{url}/modalities/us/store", told["ID"].encode())
    stored = listener.spool.find(uid)
    assert stored is not None
    assert pydicom.dcmread(stored).PixelData == pydicom.dcmread(tmp_path / "a.dcm").PixelData


@contextmanager
def orthanc(folder: Path, our_port: int) -> Iterator[str]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        http, dicom = one.getsockname()[1], other.getsockname()[1]
    settings = {"HttpPort": http, "DicomPort": dicom, "DicomAet": "MODALITY", "StorageDirectory": str(folder / "orthanc")}
    settings |= {"DicomModalities": {"us": ["PRIORITIZER", "127.0.0.1", our_port]}, "AuthenticationEnabled": False, "Plugins": []}
    (folder / "orthanc.json").write_text(json.dumps(settings))
    command, quiet = [program("Orthanc"), str(folder / "orthanc.json")], subprocess.DEVNULL
    process = subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}, stdout=quiet, stderr=quiet)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", http)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _post(url: str, body: bytes) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30) as answer:
        return bytes(answer.read())


# --- the tables -------------------------------------------------------------------------------------------------


def test_a_peer_is_known_by_its_title_and_its_address_together() -> None:
    rules = (
        PeerRule(ae_title="CT1", host="192.0.2.7"),
        PeerRule(ae_title="DX1", host="198.51.100.0/24"),
        PeerRule(ae_title="V6", host="2001:db8::/32"),
        PeerRule(ae_title="ANYWHERE", host="*"),
        PeerRule(ae_title="*", host="203.0.113.5"),
    )
    door = PeerPolicy(rules)
    admitted = [
        ("CT1", "192.0.2.7"),
        ("DX1", "198.51.100.200"),
        ("V6", "2001:db8::1"),
        ("ANYWHERE", "192.0.2.99"),
        ("X", "203.0.113.5"),
    ]
    strangers = [("CT1", "192.0.2.8"), ("DX1", "192.0.2.7"), ("V6", "2001:db9::1"), ("", "192.0.2.7"), ("*", "192.0.2.7")]
    assert all(door.rules(*peer) for peer in admitted)
    assert not any(door.rules(*peer) for peer in strangers)


def test_without_rules_nobody_is_admitted_and_an_unresolvable_name_admits_nobody() -> None:
    assert not PeerPolicy(()).rules("CT1", "127.0.0.1")
    assert not PeerPolicy([PeerRule(ae_title="CT1", host="no-such-host.invalid")]).rules("CT1", "127.0.0.1")


def test_settings_survive_their_line_of_json() -> None:
    settings = ListenerSettings(spool="/s", peers=(TRUSTED,), ignorable=("sc",), decodable=("1.2",), port=0)
    assert ListenerSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"spool": "s", "prot": 1}', '{"spool": "s", "peers": [{"ae_title": "A", "host": ""}]}'])
def test_settings_that_make_no_sense_are_a_configuration_error(line: str) -> None:
    with pytest.raises(ConfigError):
        ListenerSettings.from_json(line)


def test_an_ipv4_peer_on_an_ipv6_socket_is_known_by_its_ipv4_address() -> None:
    assert plain_address("::ffff:192.0.2.7") == "192.0.2.7"
    assert plain_address("fe80::1%eth0") == "fe80::1"


def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    process = ListenerProcess(tmp_path / "spool", host="::1", peers=(PeerRule(ae_title="MODALITY", host="::1"),))
    with socket.create_connection(("::1", process.port), timeout=10) as peer:
        peer.sendall(request())
        assert peer.recv(1) == b"\x02"
    process.kill()


def test_every_name_in_the_tables_is_the_standards_own() -> None:
    for known in (*contexts.RADIOGRAPHS, *contexts.IGNORABLE):
        assert UID(known.uid).name.replace(" (Retired)", "") == known.name
    for syntax in contexts.TRANSFER_SYNTAXES:
        known_as = UID(syntax.uid)
        assert (known_as.is_transfer_syntax, known_as.is_deflated) == (True, syntax.deflated)
        assert (known_as.is_implicit_VR, known_as.is_little_endian) == (not syntax.explicit, not syntax.big_endian)
        assert known_as.is_encapsulated == (syntax.codec is not None)


def test_radiographs_are_accepted_only_in_syntaxes_that_can_be_decoded() -> None:
    offered = contexts.accepted_contexts(decodable=["1.2.840.10008.1.2.4.90"], ignorable=["gsps", "1.2.3"])
    radiographs = {each.uid for each in contexts.RADIOGRAPHS}
    assert set(offered) == {contexts.VERIFICATION, "1.2.840.10008.5.1.4.1.1.11.1", "1.2.3"} | radiographs
    assert offered[DX] == (*contexts.NATIVE_SYNTAXES, "1.2.840.10008.1.2.4.90")


@pytest.mark.parametrize("code", [0xA900, 0xA901, 0xC000, 0xCFFF, 0x0117, 0x0122, 0x0124, 0x0211])
def test_a_permanent_failure_is_not_worth_repeating(code: int) -> None:
    assert status.is_permanent(code)
    assert not status.is_success(code)


@pytest.mark.parametrize("code", [0x0000, 0xB000, 0xB007, 0xA700, 0xA701, 0x0110, 0x0213, 0xFE00])
def test_success_and_passing_trouble_are_not_permanent(code: int) -> None:
    assert not status.is_permanent(code)


def test_every_status_has_a_sentence_and_its_number() -> None:
    for code in range(0x10000):
        assert f"0x{code:04X}" in status.describe(code)
