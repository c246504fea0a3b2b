"""Who is refused is told, in one sentence, what was expected instead: most faults of DICOM are a slip in a configuration."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from prioritizer.dicom.scp import admission
from prioritizer.dicom.scp.admission import PeerPolicy, PeerRule
from tests.support.listener_process import ListenerProcess, radiograph, storescu


def door(*peers: tuple[str, str]) -> PeerPolicy:
    return PeerPolicy(PeerRule(ae_title=title, host=host) for title, host in peers)


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
    found = door(("DX1", "10.0.0.7"), ("DX1", "localhost"), ("DX2", "10.0.0.9")).objection("DX1", "10.1.2.3")
    assert found == ("address", "called as DX1 from 10.1.2.3; DX1 is configured at 10.0.0.7, localhost")


def test_of_a_name_that_cannot_be_resolved_the_refusal_says_so():
    listed = door(("DX1", "no-such-host.invalid"), ("*", "no-such-host.invalid"))
    unknown = "no-such-host.invalid (its name could not be resolved)"
    assert not listed.rules("DX1", "10.1.2.3")
    assert listed.objection("DX1", "10.1.2.3")[1] == f"called as DX1 from 10.1.2.3; DX1 is configured at {unknown}"
    assert listed.objection("CT1", "10.1.2.3")[1].endswith(f"expected one of DX1, any AE title from {unknown}")


class Resolver:
    """Host names that come up late, as at boot."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known, self.calls, self.hangs = dict[str, str](), 0, threading.Event()
        self.hangs.set()
        monkeypatch.setattr(admission.socket, "getaddrinfo", self.look_up)

    def look_up(self, host: str, _port: None) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        self.calls += 1
        self.hangs.wait(10)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(2, 1, 6, "", (self.known[host], 0))]


def test_a_name_that_comes_up_after_the_listener_admits_its_peer(monkeypatch: pytest.MonkeyPatch):
    names = Resolver(monkeypatch)
    late = door(("DX1", "dx1.example"))
    names.known["dx1.example"] = "10.0.0.7"
    assert late.rules("DX1", "10.0.0.7")
    assert not late.rules("DX1", "10.0.0.8")
    assert late.objection("DX1", "10.0.0.8")[1].endswith("DX1 is configured at dx1.example")


def test_names_are_resolved_again_once_a_minute_and_only_for_a_stranger_who_bears_a_title_of_theirs(monkeypatch: pytest.MonkeyPatch):
    names, now = Resolver(monkeypatch), [1000.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    listed = door(("DX1", "dx1.example"), ("CT1", "10.0.0.9"))
    for title in ("CT2", "CT1", "DX1", "DX1"):
        assert not listed.rules(title, "10.0.0.7")
    assert names.calls == 2
    names.known["dx1.example"] = "10.0.0.7"
    now[0] += 60
    assert listed.rules("DX1", "10.0.0.7")
    names.known["dx1.example"] = "10.0.0.17"
    now[0] += 60
    assert listed.rules("DX1", "10.0.0.17")
    assert names.calls == 4


def test_a_resolver_that_hangs_holds_up_an_association_for_half_a_second_and_loses_no_address(monkeypatch: pytest.MonkeyPatch):
    names = Resolver(monkeypatch)
    names.known["dx1.example"] = "10.0.0.7"
    listed = door(("DX1", "dx1.example"))
    names.hangs.clear()
    begun = time.monotonic()
    assert not listed.rules("DX1", "10.0.0.8")
    assert time.monotonic() - begun < 3
    assert listed.rules("DX1", "10.0.0.7")
    names.hangs.set()


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
