"""What needs somebody, and the bundle's card, on the page System."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.access import Role
from prioritizer.daemon import dashboard_period
from prioritizer.daemon.alarms import NAMES as ALARMS
from prioritizer.db.processing import housekeeping
from prioritizer.db.processing.housekeeping import Alarm
from prioritizer.inference import bundle_card
from prioritizer.inference.bundle import open_bundle
from prioritizer.web.view.alarms import PLACES, Severity, repairs
from tests.support.ledgers import NOW, film, receive
from tests.support.page_client import at


@pytest.mark.parametrize("name", [*ALARMS, *dashboard_period.STANDING])
def test_every_alarm_says_where_it_is_mended(name: str):
    (found,) = repairs([(name, NOW, "said", "mend")])
    assert name in PLACES or name.startswith("board-")
    assert found.where.startswith("/")


def test_what_is_grave_stands_first_and_of_that_the_oldest():
    told = [(name, NOW + timedelta(minutes=n), "x", "y") for n, name in enumerate(("board-ppv", "disk", "not-ready"))]
    assert [one.place for one in repairs(told)] == ["The spool's disk", "The workers", "The board"]
    assert [one.severity for one in repairs(told)] == [Severity.ALARM, Severity.ALARM, Severity.WARNING]


def test_an_alarm_is_told_with_its_severity_its_moment_its_mend_and_the_place(ledger: sa.Engine):
    standing = [
        Alarm(name="disk", said="storing is refused with 0xA700", mend="Free the disk; `prioritizer check` tells"),
        Alarm(name="expired", said="2 studies are open for too long", mend="Read them"),
    ]
    housekeeping.stand(ledger, ("disk", "expired"), standing, NOW)
    receive(ledger, film())
    with at(ledger, "chief", Role.ADMIN) as chief:
        page = chief.get("/system").text
        grave, other = page.split("What needs somebody")[1].split("</ul>")[0].split("<li>")[1:]
        assert "!! alarm" in grave
        assert "Storing is refused with 0xA700" in grave, "what is said keeps its letters"
        assert "<code>prioritizer check</code>" in grave
        assert 'href="/system#workers"' in grave
        assert 'id="workers"' in page
        assert '<a href="/?view=expired">' in other
        assert f"{NOW.astimezone():%Y-%m-%d %H:%M:%S}" in other
        for one in repairs([(name, NOW, "x", "y") for name in PLACES]):
            assert chief.get(one.where).status_code == 200, "every place is a page"
        housekeeping.stand(ledger, ("disk", "expired"), [], NOW)
        assert "What needs somebody" not in chief.get("/system").text


def test_the_bundle_tells_its_scope_its_data_and_its_figures_with_their_intervals(ledger: sa.Engine):
    card = {**bundle_card.described(open_bundle(None)), "calibration": "own"}
    assert ("ages", "0 to 120 years; trained on 1 to 5 years at one hospital, 2 to 95 years at the other") in card["scope"]
    assert "CC BY 4.0" in dict(card["data"])["licence"]
    assert card["sets"][1].startswith("Val report: nih adults (173 films, 62 with pneumonia; seen: ")
    figures = dict(card["figures"])
    assert figures["ROC-AUC"][1] == "0.902 (0.852 to 0.948)"
    assert "Log loss" in dict(card["more"])
    with at(ledger, "ito", card=lambda: card) as ito:
        page = ito.get("/system").text
    for said in ("CHEST", "AP, PA", "CR, DX", "CC BY 4.0", "0.902 (0.852 to 0.948)", 'href="/conformance"', "val report: 662 films"):
        assert said.lower() in page.lower(), said


def test_without_a_bundle_there_is_no_card_and_a_card_that_says_little_is_told_all_the_same(ledger: sa.Engine):
    with at(ledger, "ito", card=lambda: {"title": "A bundle", "name": "b", "digest": "d" * 64, "limits": []}) as ito:
        assert "A bundle" in ito.get("/system").text
    assert bundle_card.figures_of({"a": {"x_y": [1, 0.5, 1]}, "b": {}}, ["x_y"]) == [("X y", ["1.000 (0.500 to 1.000)", "-"])]
