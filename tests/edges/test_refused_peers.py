"""Who is refused is told, in one sentence, what was expected instead: most faults of DICOM are a slip in a configuration."""

from __future__ import annotations

from pathlib import Path

from prioritizer.dicom.admission import Doorkeeper, PeerRule
from tests.edges.intake import ListenerProcess, radiograph, storescu


def door(*peers: tuple[str, str]) -> Doorkeeper:
    return Doorkeeper(PeerRule(ae_title=title, host=host) for title, host in peers)


def test_an_unknown_title_is_told_beside_those_that_are_expected():
    found = door(("DX2", "10.0.0.7"), ("DX1", "10.0.0.7"), ("DX1", "10.0.0.8")).objection("CT1", "10.1.2.3")
    assert found == ("calling-ae", "called as CT1 from 10.1.2.3; expected one of DX1, DX2")
    assert door(("DX1", "10.0.0.7")).objection("CT1", "10.1.2.3")[1] == "called as CT1 from 10.1.2.3; expected DX1"
    assert door().objection("CT1", "10.1.2.3")[1] == "called as CT1 from 10.1.2.3; no peer is configured"
    assert door(("DX1", "10.0.0.7")).objection("", "10.1.2.3")[1] == "called without an AE title from 10.1.2.3; expected DX1"
    assert door(("*", "10.0.0.0/24")).objection("CT1", "10.1.2.3")[1].endswith("expected any AE title from 10.0.0.0/24")


def test_of_many_titles_ten_are_named():
    found = door(*((f"DX{number:02}", "10.0.0.7") for number in range(13))).objection("CT1", "10.1.2.3")[1]
    assert found.endswith("expected one of DX00, DX01, DX02, DX03, DX04, DX05, DX06, DX07, DX08, DX09 and 3 more")


def test_a_known_title_from_elsewhere_is_told_where_it_is_configured():
    found = door(("DX1", "10.0.0.7"), ("DX1", "ct.example"), ("DX2", "10.0.0.9")).objection("DX1", "10.1.2.3")
    assert found == ("address", "called as DX1 from 10.1.2.3; DX1 is configured at 10.0.0.7, ct.example")


def test_the_listener_says_so_where_it_refuses(tmp_path: Path):
    radiograph(tmp_path / "a.dcm")
    peers = (PeerRule(ae_title="DX1", host="127.0.0.1"), PeerRule(ae_title="MODALITY", host="192.0.2.7"))
    process = ListenerProcess(tmp_path / "spool", peers=peers)
    try:
        storescu(process.port, tmp_path / "a.dcm", calling="DX-1")
        storescu(process.port, tmp_path / "a.dcm")
        assert [notice["reason"] for notice in process.notices(2)] == [
            "called as DX-1 from 127.0.0.1; expected one of DX1, MODALITY",
            "called as MODALITY from 127.0.0.1; MODALITY is configured at 192.0.2.7",
        ]
    finally:
        process.kill()
