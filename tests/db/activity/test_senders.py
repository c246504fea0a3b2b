"""Who sends to us: C-ECHOs, what came since somebody began to wait, and what waits for each station."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.access import Role
from prioritizer.db.activity import queues, refused_associations, senders
from prioritizer.db.schema import tables
from prioritizer.dicom.spool import notices
from prioritizer.selfcheck import doctor
from prioritizer.states import DeliveryState
from tests.support.ledgers import NOW, deliver, film, publish, receive, scored
from tests.support.page_client import LATER, at

ECHO = {"kind": "echo", "address": "10.0.0.7", "calling_ae": "DX1", "called_ae": "PRIORITIZER"}
STRANGER = {
    "kind": "refused-association",
    "address": "10.0.0.8",
    "calling_ae": "DX-1",
    "reason": "not in the peer list",
    "code": "calling-ae",
}


def told(ledger: sa.Engine, notice: dict[str, str], minutes: float, name: str = "n.json") -> None:
    refused_associations.record_notice(ledger, name, notice, NOW + timedelta(minutes=minutes), LATER)


def test_of_the_echoes_of_a_peer_only_the_newest_is_kept_and_none_is_a_refusal(ledger: sa.Engine):
    for number, minutes in enumerate((1, 9, 5)):
        told(ledger, ECHO, minutes, f"{number}.json")
    told(ledger, {**ECHO, "calling_ae": "DX2"}, 2, "other.json")
    found = {one.calling_ae: one for one in senders.heard(ledger, {"DX1", "DX3"}, NOW, LATER)}
    assert found["DX1"].echoed == NOW + timedelta(minutes=9)
    assert found["DX2"].echoed == NOW + timedelta(minutes=2), "who sent nothing but a C-ECHO today is told of"
    assert found["DX3"].echoed is None
    assert senders.newest_notices(ledger, 9).rows == []
    assert senders.refused_since(ledger, NOW - timedelta(days=1)) == 0


def test_every_kind_of_notice_is_a_refusal_or_an_echo():
    assert set(notices.KINDS) == {*senders.REFUSALS, tables.ECHO}, "a kind that neither page nor status asks for would be hidden"


def test_what_a_device_sent_since_is_told_with_the_refusals_of_everybody(ledger: sa.Engine):
    receive(
        ledger,
        film(1, "1.2.1", NOW),
        film(1, "1.2.2", NOW + timedelta(minutes=2)),
        film(1, "1.2.3", NOW + timedelta(minutes=3), calling_ae="DX2"),
    )
    told(ledger, ECHO, 1)
    told(ledger, STRANGER, 2, "s.json")
    since = NOW + timedelta(seconds=30)
    found = senders.came(ledger, "DX1", since)
    assert [one.study_uid for one in found.images] == ["1.2.2"]
    assert [one.calling_ae for one in found.echoes] == ["DX1"]
    assert [one.calling_ae for one in found.refusals] == ["DX-1"], "a device that is set up wrongly calls itself something else"
    late = senders.came(ledger, "DX1", NOW + timedelta(minutes=4))
    assert (late.images, late.echoes, late.refusals) == ([], [], [])


def test_the_last_refusal_of_a_peer_is_told_however_often_others_are_refused(ledger: sa.Engine):
    told(ledger, {**STRANGER, "calling_ae": "DX1", "code": "address", "reason": "DX1 is configured at 10.0.0.7"}, 1, "dx1.json")
    told(ledger, {**STRANGER, "kind": "refused-object", "calling_ae": "DX1", "reason": "an older one"}, 0, "older.json")
    for number in range(60):
        told(ledger, STRANGER, 2 + number / 100, f"{number}.json")
    told(ledger, {**STRANGER, "calling_ae": "DX2"}, -31 * 24 * 60, "long-ago.json")
    found = senders.last_refusals(ledger, {"DX1", "DX2", "DX3"}, LATER)
    assert {title: one.reason for title, one in found.items()} == {"DX1": "DX1 is configured at 10.0.0.7"}
    receive(ledger, film(at=LATER))
    with at(ledger, "chief", Role.ADMIN) as chief:
        page = chief.get("/system").text
    (row,) = [row for row in page.split("<tr>") if row.startswith('<th scope="row">DX1')]
    assert "DX1 is configured at 10.0.0.7" in row


def test_a_list_that_is_cut_says_so(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    for number in range(55):
        told(ledger, STRANGER, number, f"{number}.json")
    told(ledger, {**STRANGER, "kind": "quarantined"}, 99, "quarantined.json")
    found = senders.newest_notices(ledger, 50)
    assert [one.kind for one in found.rows[:2]] == ["quarantined", "refused-association"], "the newest of all kinds"
    assert found.cut == "the newest 50 of 56"
    assert senders.newest_notices(ledger, 60).cut == ""
    with at(ledger, "chief", Role.ADMIN) as chief:
        assert "in conflict: the newest 50 of 56" in chief.get("/system").text
    monkeypatch.setattr(senders, "MAX_COUNTED", 10)
    monkeypatch.setattr(queues, "MAX_COUNTED", 10)
    assert senders.newest_notices(ledger, 5).cut == "the newest 5 of more than 10"


def test_every_kind_of_notice_but_an_echo_is_a_refusal_and_no_other():
    assert {*senders.REFUSALS, notices.ECHOED} == set(notices.KINDS)


def test_what_waits_and_what_was_done_is_told_of_each_station(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.9, NOW)
    publish(ledger, "2.25.1", ("pacs", "archive"))
    deliver(ledger, DeliveryState.SENT, "archive")
    receive(ledger, film(1, "1.2.2", NOW + timedelta(minutes=1)), film(2, "1.2.2", NOW + timedelta(minutes=2)))
    found = queues.queues(ledger)
    assert (found[queues.TO_SCORE].waiting, found[queues.TO_SCORE].oldest) == (2, NOW + timedelta(minutes=1))
    assert found["pacs"].waiting == 1
    assert "archive" not in found
    assert queues.done(ledger, NOW + timedelta(minutes=10)) == {"receive": "2 studies", "score": "1 images", "publish": "1 results"}
    assert queues.done(ledger, NOW + timedelta(hours=2))["score"] == "0 images"
    with at(ledger, "chief", Role.ADMIN) as chief:
        page = chief.get("/system").text
    rows = {row.split("</th>")[0].split(">")[-1]: row for row in page.split("<tr>") if "Failures in a row" in row}
    assert 'Waiting">3<' in rows["receive"], "the inbox of the spool"
    assert 'Waiting">2<' in rows["score-0"]
    assert 'Waiting">1<' in rows["deliver-pacs"]
    assert "50.0 GiB free, 50 %" in page


def test_an_administrator_waits_for_a_device_and_sees_what_comes(ledger: sa.Engine):
    with at(ledger, "chief", Role.ADMIN) as chief:
        began = chief.get("/system/waiting", params={"title": "DX1"})
        address = str(began.url)
        assert "since=" in address
        assert "Nothing of DX1" in began.text
        assert "hx-get" in began.text, "it looks again by itself"
        minutes = (LATER - NOW).total_seconds() / 60
        told(ledger, ECHO, minutes + 0.1)
        told(ledger, STRANGER, minutes + 0.1, "s.json")
        page = chief.get(address).text
        assert "DX1 reaches us" in page
        assert "ae_title = &#34;DX-1&#34;" in page
        receive(ledger, film(1, "1.2.1", LATER + timedelta(seconds=9)))
        page = chief.get(address).text
        assert "An image of DX1 was received" in page
        assert 'href="/study/1.2.1"' in page
        assert "hx-get" not in page
        part = chief.get(address.replace("/waiting", "/waiting/now")).text
        assert part.startswith("<section")
        assert chief.get("/system/waiting", params={"title": ""}).status_code == 422
        assert chief.get("/system/waiting", params={"title": "DX1", "since": "nan"}).status_code == 422
    with at(ledger, "ito") as ito:
        assert ito.get("/system/waiting", params={"title": "DX1"}).status_code == 403


def test_the_command_line_waits_for_a_device_too(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "LOOK_EVERY_S", 0.01)
    far = (LATER - NOW).total_seconds() / 60
    waiting = doctor.wait_for(ledger, "DX1", 60)
    told(ledger, ECHO, far)
    assert "C-ECHO from 10.0.0.7 was answered" in next(waiting).said
    told(ledger, STRANGER, far, "s.json")
    refused = next(waiting)
    assert refused.warning
    assert 'ae_title = "DX-1"' in refused.mend
    receive(ledger, film(1, "1.2.1", LATER))
    (last,) = waiting
    assert last.ok
    assert "study 1.2.1" in last.said
    nothing = list(doctor.wait_for(ledger, "DX9", 0.02))[-1]
    assert (nothing.ok, nothing.said) == (False, "no image came in 0.02 s")
