"""What odd but honest devices propose: accepted where DCMTK and Orthanc accept it, refused by context, and named where refused."""

from __future__ import annotations

import struct
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.config.settings import Settings
from prioritizer.db.activity.senders import NoticeRow
from prioritizer.dicom.read import attributes, decode
from prioritizer.dicom.scp import association_pdu, refusal_reasons
from prioritizer.dicom.scp.admission import PeerPolicy, PeerRule, read_peers
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.dicom.standard.contexts import COMPUTED_RADIOGRAPHY, VERIFICATION
from tests.support.listener_process import DX, ListenerProcess, RawPeer, command_set, item, p_data, proposed, request
from tests.support.pacs import Orthanc

EXPLICIT, IMPLICIT, PRIVATE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.113619.5.2"
ACCEPTED, REJECTED, ABORTED = 2, 3, 7
LAST_COMMAND, DATA, LAST_DATA = 0b11, 0b00, 0b10
LONG_UID = "1." + "2" * 100


def answered(port: int, sent: bytes) -> tuple[int, dict[int, int]]:
    """The kind of PDU that came back, and the result of each presentation context."""
    with RawPeer(port) as peer:
        peer.send(sent)
        kind, body = peer.pdu()
    results, at = {}, 68
    while kind == ACCEPTED and at < len(body):
        (length,) = struct.unpack_from(">H", body, at + 2)
        if body[at] == 0x21:
            results[body[at + 4]] = body[at + 6]
        at += 4 + length
    return kind, results


def nothing_inside(context_id: int) -> bytes:
    return item(0x20, bytes((context_id, 0, 0, 0)) + item(0x30, DX.encode()))


ROUTER = [EXPLICIT, IMPLICIT] + [f"1.2.840.10008.1.2.4.{number}" for number in range(50, 90)]
BIG_REQUEST = request(*[proposed(2 * n + 1, f"1.2.840.10008.5.1.4.1.1.{n + 1}", *ROUTER) for n in range(127)], proposed(255, DX, *ROUTER))
# What DCMTK's storescp and Orthanc accept, and what becomes of the contexts.
AS_OTHERS_DO = {
    "title padded with NUL": (request(proposed(1, DX), called=b"PRIORITIZER\0\0\0\0\0"), {1: 0}),
    "rubbish behind the NUL": (request(proposed(1, DX), called=b"PRIORITIZER\0ABC"), {1: 0}),
    "odd transfer syntax behind a good one": (request(proposed(1, DX, EXPLICIT, "not-a-uid")), {1: 0}),
    "odd transfer syntax before a good one": (request(proposed(1, DX, "not-a-uid", EXPLICIT)), {1: 0}),
    "empty transfer syntax": (request(proposed(1, DX, EXPLICIT, "")), {1: 0}),
    "odd abstract syntax": (request(proposed(1, DX), proposed(3, "GE.private.thing")), {1: 0, 3: 3}),
    "empty abstract syntax": (request(proposed(1, DX), proposed(3, "")), {1: 0, 3: 3}),
    "abstract syntax beyond ASCII": (request(proposed(1, DX), proposed(3, "日本")), {1: 0, 3: 3}),
    "nothing but odd ones": (request(proposed(1, "abc", "def")), {1: 3}),
    "128 contexts of 42 syntaxes": (BIG_REQUEST, {255: 0}),
}
# What they end the association for, and what costs here no more than its own context.
BY_CONTEXT = {
    "abstract syntax of 102 characters": (request(proposed(1, DX), proposed(3, LONG_UID)), {1: 0, 3: 3}),
    "transfer syntax of 102 characters": (request(proposed(1, DX, EXPLICIT, LONG_UID)), {1: 0}),
    "no transfer syntax at all": (request(proposed(1, DX), nothing_inside(3)), {1: 0, 3: 4}),
    "no abstract syntax at all": (request(proposed(1, DX), item(0x20, bytes((3, 0, 0, 0)))), {1: 0, 3: 3}),
    "title with leading blanks": (request(proposed(1, DX), called=b"  PRIORITIZER", calling=b" MODALITY"), {1: 0}),
}


@pytest.mark.parametrize("name", [*AS_OTHERS_DO, *BY_CONTEXT])
def test_an_odd_request_costs_no_more_than_the_context_it_is_odd_in(listener: ListenerProcess, name: str):
    sent, expected = {**AS_OTHERS_DO, **BY_CONTEXT}[name]
    kind, results = answered(listener.port, sent)
    assert kind == ACCEPTED
    assert expected.items() <= results.items()


@pytest.mark.parametrize("name", AS_OTHERS_DO)
def test_storescp_answers_the_same(storescp: tuple[int, Path], name: str):
    sent, expected = AS_OTHERS_DO[name]
    kind, results = answered(storescp[0], sent)
    assert kind == ACCEPTED
    assert expected.items() <= results.items()


@pytest.mark.parametrize("name", AS_OTHERS_DO)
def test_orthanc_answers_the_same(orthanc: Orthanc, name: str):
    sent, expected = AS_OTHERS_DO[name]
    kind, results = answered(orthanc.port, sent.replace(b"PRIORITIZER", b"ORTHANC\0\0\0\0"))
    assert kind == ACCEPTED
    assert expected.items() <= results.items()


def test_of_a_context_that_proposes_thousands_of_syntaxes_the_first_are_looked_at():
    read = association_pdu.parse_request(request(proposed(1, DX, EXPLICIT, *[""] * 10_000))[6:])
    assert read.contexts[0].transfer_syntaxes[0] == EXPLICIT
    assert len(read.contexts[0].transfer_syntaxes) < 256


def test_a_title_that_is_really_another_stays_refused(listener: ListenerProcess):
    for called in (b"OTHER\0\0\0", b"prioritizer", b"PRIORITIZER2", b"\0" * 16, b"PRIORI\xffIZER"):
        assert answered(listener.port, request(called=called))[0] == REJECTED
    assert answered(listener.port, request(calling=b"MODALIT\xff"))[0] == REJECTED


def test_a_question_mark_in_a_title_stands_for_itself_alone():
    rules = PeerPolicy([PeerRule(ae_title="DX?", host="127.0.0.1")])
    odd, plain = (association_pdu.parse_request(request(calling=title)[6:]) for title in (b"DX\xff", b"DX?"))
    assert (odd.calling_ae, odd.calling_is_plain, plain.calling_is_plain) == ("DX?", False, True)
    assert not rules.rules("", "127.0.0.1")


def test_identity_roles_and_extended_negotiation_pass(listener: ListenerProcess):
    extras = item(0x58, b"\x01\x01" + struct.pack(">H", 4) + b"user" + struct.pack(">H", 0)) + item(0x53, bytes((0, 1, 0, 1)))
    extras += item(0x54, struct.pack(">H", len(DX)) + DX.encode() + b"\x01\x00") + item(
        0x56, struct.pack(">H", len(DX)) + DX.encode() + b"\x01"
    )
    head = request(proposed(1, DX))
    at = head.rindex(item(0x51, struct.pack(">I", 16384)))
    grown = head[: at - 2] + struct.pack(">H", len(head) - at + len(extras)) + head[at:] + extras
    grown = grown[:2] + struct.pack(">I", len(grown) - 6) + grown[6:]
    assert answered(listener.port, grown) == (ACCEPTED, {1: 0})


@given(st.lists(st.tuples(st.binary(max_size=80), st.lists(st.binary(max_size=80), max_size=4)), min_size=1, max_size=8))
def test_whatever_stands_for_a_uid_the_request_is_read_and_the_refusal_can_be_printed(contexts: list[tuple[bytes, list[bytes]]]):
    inner = [item(0x30, abstract) + b"".join(item(0x40, one) for one in syntaxes) for abstract, syntaxes in contexts]
    sent = request(*(item(0x20, bytes((2 * number + 1, 0, 0, 0)) + one) for number, one in enumerate(inner)))
    read = association_pdu.parse_request(sent[6:])
    code, sentence = refusal_reasons.refused_contexts(read, {}, {}) or ("", "")
    assert code == "no-context"
    assert sentence.isprintable()
    assert sentence.isascii()
    assert len(sentence) < 2500
    assert association_pdu.encode_accept(read, {}, {}, 16384)


# --- refusals that say what to do -----------------------------------------------------------------------------------


def refused(process: ListenerProcess, sent: bytes) -> NoticeRow:
    """The notice of this request as the ledger holds it."""
    for path in process.spool.notices():
        process.spool.acknowledge(path)
    answered(process.port, sent)
    (notice,) = process.notices(1)
    told = {key: notice[key] for key in ("kind", "address", "calling_ae", "called_ae", "reason")}
    return NoticeRow(at=datetime.now(UTC), detail=notice, **told)


def test_a_private_syntax_is_named_with_the_class_it_was_proposed_for(listener: ListenerProcess):
    notice = refused(listener, request(proposed(1, COMPUTED_RADIOGRAPHY, PRIVATE)))
    assert notice.reason == (
        "none of the proposed SOP classes and transfer syntaxes is accepted: Computed Radiography Image Storage "
        f"({COMPUTED_RADIOGRAPHY}) in {PRIVATE} (no such transfer syntax is accepted)"
    )
    assert notice.admitting_toml == ""


def test_it_is_named_too_where_another_context_was_accepted(listener: ListenerProcess):
    notice = refused(listener, request(proposed(1, VERIFICATION), proposed(3, DX, PRIVATE)))
    assert PRIVATE in notice.reason
    assert notice.reason.startswith("accepted in part")


def test_two_refusals_of_one_device_for_different_reasons_are_both_written_down(listener: ListenerProcess):
    answered(listener.port, request(proposed(1, DX, PRIVATE)))
    answered(listener.port, request(proposed(1, DX, PRIVATE + ".7")))
    assert [PRIVATE + ".7" in notice["reason"] for notice in listener.notices(2)] == [False, True]


@pytest.mark.parametrize("calling", [b"", b"\0" * 16, b"DX\xc4", b'DX"1', b"DX\\1", b"DX'#1=", b"STRANGER"])
def test_the_lines_offered_for_a_refusal_admit_the_device(tmp_path: Path, calling: bytes):
    process = ListenerProcess(tmp_path / "spool", peers=(PeerRule(ae_title="DX1", host="192.0.2.1"),))
    try:
        notice = refused(process, request(proposed(1, DX), calling=calling))
        peers = tomllib.loads(notice.admitting_toml)["peers"]
        assert len(Settings(peers=peers).peers) == 1
        rules = read_peers(peers)
        process.say('{"peers": [' + ",".join(f'{{"ae_title": {_quoted(one.ae_title)}, "host": "{one.host}"}}' for one in rules) + "]}")
        process.wait_for("reloaded")
        assert answered(process.port, request(proposed(1, DX), calling=calling)) == (ACCEPTED, {1: 0})
    finally:
        process.kill()


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)


def test_where_both_titles_are_wrong_no_line_is_offered_and_the_reason_says_so(listener: ListenerProcess):
    notice = refused(listener, request(calling=b"STRANGER", called=b"OTHER"))
    assert notice.admitting_toml == ""
    assert "called as STRANGER" in notice.reason
    assert "it called OTHER, and this listener is PRIORITIZER: no line here admits it" in notice.reason
    assert "it called OTHER" in refused(listener, request(called=b"OTHER")).reason


# --- messages -------------------------------------------------------------------------------------------------------


def element(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    long = vr in (b"OB", b"UN")
    return struct.pack("<HH2s", *tag, vr) + (struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))) + value


def group_2(syntax: str) -> bytes:
    inner = element((2, 1), b"OB", b"\0\1") + element((2, 0x10), b"UI", syntax.encode())
    return element((2, 0), b"UL", struct.pack("<I", len(inner))) + inner


@pytest.mark.parametrize("claimed", [EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.4.50"])
@pytest.mark.parametrize("peer", ["ours", "orthanc", "storescp"])
def test_group_0002_inside_the_data_set_is_taken_and_is_no_word_on_its_encoding(
    listener: ListenerProcess, orthanc: Orthanc, storescp: tuple[int, Path], claimed: str, peer: str
):
    film = phantom_file(PhantomPatient(number=5, taken_at=datetime(2026, 3, 4, tzinfo=UTC), rows=16, columns=16))
    data = group_2(claimed) + film[film.index(b"\x08\x00\x05\x00CS") :]
    uid = attributes_uid(film)
    port = {"ours": listener.port, "orthanc": orthanc.port, "storescp": storescp[0]}[peer]
    with RawPeer(port) as sending:
        called = b"ORTHANC" if peer == "orthanc" else b"PRIORITIZER"
        sending.send(request(proposed(3, COMPUTED_RADIOGRAPHY), called=called))
        assert sending.pdu()[0] == ACCEPTED
        command = command_set(1, sop_class=COMPUTED_RADIOGRAPHY.encode(), uid=uid)
        sending.send(p_data(3, LAST_COMMAND, command) + p_data(3, LAST_DATA, data))
        assert sending.status() == 0x0000
    if peer == "ours":
        (path,) = listener.spool.inbox()
        assert attributes.read_instance(path).patient_name == "PHANTOM^FIVE"
        assert decode.read_frame(path).pixels.shape == (16, 16)


def attributes_uid(film: bytes) -> bytes:
    at = film.index(b"\x08\x00\x18\x00UI", 200)
    return film[at + 8 : at + 8 + int.from_bytes(film[at + 6 : at + 8], "little")].rstrip(b"\0")


def test_the_last_fragment_of_a_message_that_is_too_long_is_not_acknowledged(tmp_path: Path):
    process = ListenerProcess(tmp_path / "spool", max_message_bytes=10_000)
    try:
        head = element((8, 0x16), b"UI", DX.encode()) + element((8, 0x18), b"UI", b"1.2.3.4")
        with RawPeer(process.port) as peer:
            peer.associate()
            peer.send(p_data(3, LAST_COMMAND, command_set(1)) + p_data(3, LAST_DATA, head + bytes(10_000)))
            assert peer.pdu()[0] == ABORTED
        assert not list(process.spool.inbox())
        assert not list(process.spool.partial.iterdir())
    finally:
        process.kill()


@pytest.mark.parametrize(("bytes_a_tenth", "outcome"), [(400, "stored"), (4, "aborted")])
def test_a_slow_line_is_served_and_a_drip_is_cut(tmp_path: Path, bytes_a_tenth: int, outcome: str):
    """One PDU takes longer than `pdu_timeout` at either speed; only one of them keeps up with `min_rate`."""
    process = ListenerProcess(tmp_path / "spool", pdu_timeout=0.5, min_rate=1000, rate_grace=0.5)
    try:
        head = element((8, 0x16), b"UI", DX.encode()) + element((8, 0x18), b"UI", b"1.2.3.4")
        sent = p_data(3, LAST_DATA, head + element((0x10, 0x20), b"LO", b"P1" * 2000))
        with RawPeer(process.port) as peer:
            peer.associate()
            peer.send(p_data(3, LAST_COMMAND, command_set(1)))
            kind = _drip(peer, sent, bytes_a_tenth)
        assert kind == outcome
    finally:
        process.kill()


def _drip(peer: RawPeer, sent: bytes, step: int) -> str:
    try:
        for at in range(0, len(sent), step):
            peer.send(sent[at : at + step])
            time.sleep(0.1)
    except OSError:
        return "aborted"
    kind, body = peer.pdu()
    return "stored" if kind == 4 and b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" in body else "aborted"


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_send_reports_names_the_peer(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    from rich.console import Console

    from prioritizer.cli.send import send_paths

    (tmp_path / "a.dcm").write_bytes(phantom_file(PhantomPatient(number=5, taken_at=datetime(2026, 3, 4, tzinfo=UTC), rows=16, columns=16)))
    out = Console(width=300)
    assert not send_paths([tmp_path / "a.dcm"], "PACS@127.0.0.1:9", "US", as_json=False, out=out, talk=out)
    assert "PACS@127.0.0.1:9 cannot be reached" in capsys.readouterr().out
