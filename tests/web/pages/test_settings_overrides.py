"""The page of the site's rules: tried before it is saved, decided on what was shown, and nothing without a right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from prioritizer.access import May, Role, rights_of
from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import QuietTime
from prioritizer.config.sections import CalibrationSection, Site
from prioritizer.config.settings import Settings
from prioritizer.daemon import settings_in_force as settings_ruled
from prioritizer.db.accounts import people, sessions
from prioritizer.db.decisions import activation, calibrations, settings_overrides
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.in_force.settings import holding
from prioritizer.db.schema import connect, migrations
from prioritizer.db.worklist import rows
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.app import page_app
from prioritizer.web.server import WebServer
from tests.support.ledgers import POLICY, scored, site_policy
from tests.support.page_client import THEN, backend_of

OWN = Calibration(id="own", method="temperature", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1, n=500, events=100)
SITE = site_policy(t_high=0.5, t_low=0.1, bundle_digest="d" * 64, own=OWN)
NOW_QUIET = QuietTime(quiet=timedelta(0), ceiling=timedelta(minutes=1))
MINUTE = timedelta(minutes=1)
SHADOW = {"stage": "shadow", "reason": "a week of measuring"}


@dataclass
class House:
    """Where the page answers, and the ledger behind it."""

    url: str
    engine: sa.Engine
    tokens: dict[str, str]
    settings: list[Settings]

    def get(self, path: str, who: str = "pia") -> httpx.Response:
        return httpx.get(self.url + path, headers={"Authorization": f"Bearer {self.tokens[who]}"}, timeout=60)

    def post(self, path: str, who: str = "pia", **form: Any) -> httpx.Response:
        return httpx.post(self.url + path, data=form, headers={"Authorization": f"Bearer {self.tokens[who]}"}, timeout=60)

    def propose(self, who: str = "pia", **form: Any) -> int:
        answer = self.post("/rules/propose", who, **({"shown": self.change(), "high_minutes": "15", "reason": "a trial"} | form))
        assert answer.status_code == 303, answer.text
        return int(answer.headers["location"].rpartition("/")[2])

    def change(self) -> int:
        return holding(self.engine, POLICY).change


@pytest.fixture
def house(tmp_path: Any) -> Iterator[House]:
    engine = connect.open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    migrations.upgrade(engine)
    scored(engine, "1.2.3", 0.9)
    tokens = {}
    for name, role in (("rita", Role.READER), ("pia", Role.PHYSICIST), ("paul", Role.PHYSICIST)):
        people.add(engine, name, role, "tests", THEN)
        rights = sorted(rights_of(role))
        tokens[name] = sessions.make_token(engine, name, "tests", rights, "tests", THEN, timedelta(days=1))[0]
    settings = [Settings(site=Site(name="test site", stage=Stage.ACTIVE))]
    in_force = settings_ruled.SettingsInForce(engine, lambda: settings[0])
    page = backend_of(engine, settings=in_force, configured=lambda: settings[0], policy=lambda: SITE, settings_changed=in_force.forget)
    server = WebServer(page_app(page), "127.0.0.1", 0)
    server.start()
    yield House(f"http://127.0.0.1:{server.port}", engine, tokens, settings)
    server.stop()
    engine.dispose()


def shown_in(page: str) -> set[str]:
    """What the forms of a page say they were shown."""
    return set(re.findall(r'name="shown" value="(\d+)"', page))


def test_what_is_configured_ruled_and_in_force_stands_side_by_side(house: House) -> None:
    assert "the configuration alone" in house.get("/rules").text
    number = house.propose(neutral_minutes="90")
    answer = house.post(f"/rules/{number}/activate", shown=0)
    assert answer.status_code == 200
    page = house.get("/rules").text
    assert f"settings override {number}</a> above the configuration, by pia" in page
    assert "<td>30 min</td><td>15 min</td><td><b>15 min</b></td>" in page
    assert "<td>180 min</td><td></td><td>180 min</td>" in page
    assert f"settings override {number} above the configuration" in house.get("/system").text


def test_a_preview_shows_the_effect_and_saves_nothing(house: House) -> None:
    page = house.post("/rules/preview", **SHADOW)
    assert page.status_code == 200
    assert "simulated by a test" in page.text
    assert "Propose this settings override" in page.text
    assert 'name="stage" value="shadow"' in page.text
    assert settings_overrides.listed(house.engine) == []


def test_what_the_configuration_would_refuse_is_said_beside_the_form_that_keeps_its_values(house: House) -> None:
    page = house.post("/rules/preview", high_minutes="500", reason="x")
    assert page.status_code == 422
    assert "must be below neutral_minutes" in page.text
    assert 'value="500"' in page.text
    assert house.post("/rules/preview", high_minutes="30").status_code == 422
    assert house.post("/rules/propose", high_minutes="500", reason="x", shown=0).status_code == 409


def test_a_ruled_shadow_is_what_every_page_shows_from_then_on(house: House) -> None:
    assert "raised" in house.get("/").text
    house.post(f"/rules/{house.propose(**SHADOW, high_minutes='')}/activate", shown=0)
    page = house.get("/").text
    assert "stage shadow" in page
    assert "Shadow: the list is in order of arrival" in page
    assert rows.study(house.engine, "1.2.3").due_at - rows.study(house.engine, "1.2.3").first_received_at == 120 * MINUTE


def test_a_reader_may_look_but_not_decide_and_sees_no_figure_of_ai_in_shadow(house: House) -> None:
    number = house.propose()
    assert "simulated by a test" in house.get(f"/rules/{number}", "rita").text
    steps = ("preview", "end/preview", "back/preview", "propose", "end", "back", f"{number}/activate", f"{number}/approve")
    for path in (f"/rules/{step}" for step in steps):
        assert house.post(path, "rita", shown=0, high_minutes="15", reason="x").status_code == 403
    page = house.get("/rules", "rita")
    assert page.status_code == 200
    assert '<form method="post" action="/rules' not in page.text
    house.post(f"/rules/{house.propose(**SHADOW, high_minutes='')}/activate", shown=0)
    assert "simulated by a test" not in house.get(f"/rules/{number}", "rita").text
    assert "simulated by a test" in house.get(f"/rules/{number}").text


def test_every_form_says_what_it_was_shown_and_is_refused_when_something_else_is_in_force(house: House) -> None:
    first, second = house.propose(), house.propose(high_minutes="10")
    assert shown_in(house.get(f"/rules/{first}").text) == {"0"}
    assert house.post(f"/rules/{first}/activate", shown=0).status_code == 200
    assert shown_in(house.get("/rules").text) == {"1"}
    for path in (f"/rules/{second}/activate", f"/rules/{second}/reject", f"/rules/{second}/approve", "/rules/end", "/rules/back"):
        answer = house.post(path, "paul", shown=0)
        assert answer.status_code == 409, path
        assert f"settings override {first}, put in force by pia" in answer.text
    assert house.post("/rules/propose", shown=0, high_minutes="5", reason="x").status_code == 409
    assert house.change() == 1


def test_a_form_without_what_it_was_shown_decides_nothing(house: House) -> None:
    number = house.propose()
    for shown in ({}, {"shown": "x"}, {"shown": "-1"}, {"shown": "9" * 400}):
        assert house.post(f"/rules/{number}/activate", **shown).status_code == 422
    assert house.change() == 0


def test_ending_and_going_back_by_their_buttons(house: House) -> None:
    first = house.propose()
    house.post(f"/rules/{first}/activate", shown=0)
    house.post(f"/rules/{house.propose(high_minutes='10')}/activate", shown=1)
    assert f"Settings override {first} is in force" in house.post("/rules/back", shown=2).text
    assert "The configuration alone is in force" in house.post("/rules/end", shown=3).text
    assert house.post("/rules/end", shown=4).status_code == 409


def test_ending_and_going_back_are_simulated_before_they_are_done(house: House) -> None:
    for step in ("end", "back"):
        assert house.post(f"/rules/{step}/preview").status_code == 409
    first = house.propose()
    house.post(f"/rules/{first}/activate", shown=0)
    house.post(f"/rules/{house.propose(high_minutes='10')}/activate", shown=1)
    back, end = house.post("/rules/back/preview").text, house.post("/rules/end/preview").text
    assert f"What it would do: settings override {first} again, deadline of a raised study 15 min" in back
    assert "What it would do: the configuration alone" in end
    for step, page in (("back", back), ("end", end)):
        assert "simulated by a test" in page
        assert shown_in(page[page.index('id="effect"') :]) == {"2"}
        assert f'action="/rules/{step}"' in page[page.index('id="effect"') :]
        assert "Propose this settings override" not in page
    assert house.change() == 2
    assert house.post("/rules/mend/preview").status_code == 422


def test_a_second_person_is_asked_for_where_the_site_wants_one(house: House) -> None:
    house.settings[0] = house.settings[0].model_copy(update={"calibration": CalibrationSection(second_person=True)})
    number = house.propose()
    page = house.get(f"/rules/{number}").text
    assert "Another person than pia must approve it" in page
    assert "Approve as a second person" not in page
    assert house.post(f"/rules/{number}/activate", shown=0).status_code == 409
    assert house.post(f"/rules/{number}/approve", shown=0).status_code == 409
    assert "Approve as a second person" in house.get(f"/rules/{number}", "paul").text
    assert house.post(f"/rules/{number}/approve", "paul", shown=0).status_code == 303
    assert house.post(f"/rules/{number}/activate", shown=0).status_code == 200


def test_a_number_that_is_none_is_not_found(house: House) -> None:
    for number in ("0", "7", "-1", "abc", "1.0", "2147483648", "9" * 10, "9" * 30, "9" * 5000, "%F0%9F%92%A9", "%D9%A1"):
        assert house.get(f"/rules/{number}").status_code == 404, number
        for step in ("approve", "reject", "activate"):
            assert house.post(f"/rules/{number}/{step}", shown=0).status_code == 404, number


def test_text_of_people_is_never_markup(house: House) -> None:
    number = house.propose(reason="<script>alert(1)</script>")
    for path in ("/rules", f"/rules/{number}"):
        page = house.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;" in page


def test_no_page_of_rules_needs_a_script_or_a_style_of_its_own(house: House) -> None:
    pages = [house.post("/rules/preview", **SHADOW).text, house.get("/rules").text, house.get(f"/rules/{house.propose()}").text]
    for page in pages:
        assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?! src)", page)


def test_a_ruling_that_was_set_aside_is_said_on_top_and_may_be_ended(house: House) -> None:
    number = house.propose()
    house.post(f"/rules/{number}/activate", shown=0)
    with house.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE rulings SET document = replace(document, '15', '25')")
    page = house.get("/rules").text
    assert f"settings override {number} is set aside" in page
    assert "The configuration alone holds" in page
    assert house.get(f"/rules/{number}").status_code == 200
    assert house.post("/rules/end", shown=1).status_code == 200


def test_going_back_from_a_calibration_by_an_old_page_is_refused(house: House) -> None:
    for name, by in (("b", 1.0), ("c", 2.0)):
        made = OWN.moved(1.0, by, "intercept")
        made = Calibration(**{**{field: getattr(made, field) for field in made.__dataclass_fields__}, "id": name})
        calibrations.add(house.engine, "d" * 64, made, CandidateVerdict(word="fit to activate", said="", report=""), "anna", THEN)
        activation.activate(house.engine, name, Decision(who="anna"), SITE, THEN)
    assert shown_in(house.get("/calibrations").text) == {"2"}
    assert house.post("/calibrations/rollback", shown=2).status_code == 303
    again = house.post("/calibrations/rollback", "paul", shown=2)
    assert again.status_code == 409
    assert "b, put in force by pia (activation 3)" in again.text
    assert house.post("/calibrations/c/activate", shown=2).status_code == 409
    assert house.post("/calibrations/rollback", own="yes", shown=3).status_code == 303


def test_the_right_to_decide_is_that_of_calibrations() -> None:
    assert May.CALIBRATE in rights_of(Role.PHYSICIST)
    assert May.CALIBRATE not in rights_of(Role.READER)


def test_a_threshold_of_the_page_becomes_a_candidate_and_what_is_no_number_is_said(house: House) -> None:
    assert 'action="/calibrations/threshold"' in house.get("/calibrations").text
    made = house.post("/calibrations/threshold", shown=0, probability="0.4")
    assert (made.status_code, made.headers["location"]) == (303, "/calibrations/threshold-1")
    for form, said in (({}, "one of three"), ({"probability": "much"}, "is no number"), ({"sensitivity": "nan"}, "finite")):
        answer = house.post("/calibrations/threshold", shown=0, **form)
        assert answer.status_code == 409
        assert said in answer.text
    assert house.post("/calibrations/threshold", probability="0.4").status_code == 422
    assert house.post("/calibrations/threshold", "rita", shown=0, probability="0.4").status_code == 403
