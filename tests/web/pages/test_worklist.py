"""The pages of the list and of a study, as a browser without scripts gets them: nothing is lost, hidden or told that may not be."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import quote, unquote

import pytest
import sqlalchemy as sa

from prioritizer.access import Role
from prioritizer.config.sections import Ranking, Reading, Site
from prioritizer.config.settings import Settings
from prioritizer.config.web_sections import Viewer
from prioritizer.db.processing import housekeeping
from prioritizer.db.processing.housekeeping import Alarm
from prioritizer.db.worklist import deadlines, feedback, reading, rows
from prioritizer.ranking.deadlines import Stage
from prioritizer.study import ReaderFinding
from tests.support.ledgers import LEASE, NOW, film, kinds, listed, receive, scored
from tests.support.page_client import LATER, at

BLIND = "?order=arrival&blind=1"


def shown(text: str) -> list[str]:
    """The Study UIDs of a list's rows, in order."""
    return re.findall(r'data-uid="([^"]+)"', text)


def many(ledger: sa.Engine, count: int = 60) -> list[str]:
    uids = [f"1.2.{number:03}" for number in range(count)]
    receive(ledger, *(film(1, uid, NOW + timedelta(seconds=number)) for number, uid in enumerate(uids)))
    return uids


def following(text: str) -> str:
    """The address of the next page."""
    found = re.search(r'href="(/\?[^"]+)">next page', text)
    assert found is not None
    return found[1].replace("&amp;", "&")


# --- pages -------------------------------------------------------------------------------------------------------------


def test_from_the_second_page_one_comes_back_to_the_second_page_and_to_the_row(ledger: sa.Engine):
    uids = many(ledger)
    with at(ledger, "ito") as ito:
        second = ito.get(following(ito.get("/").text))
        assert shown(second.text) == uids[50:]
        link = re.search(r'<a href="(/study/1.2.055[^"]*)"', second.text)
        assert link is not None
        study = ito.get(link[1].replace("&amp;", "&")).text
        back = re.search(r'id="back" href="([^"]+)"', study)
        assert back is not None
        page = ito.get(back[1].replace("&amp;", "&")).text
        assert shown(page) == uids[50:]
        assert re.search(r'class="[^"]* at" data-uid="1.2.055"', page)
        kept = re.search(r'id="step"><input type="hidden" name="list" value="([^"]+)"', second.text)
        assert kept is not None
        page = ito.post("/study/1.2.055/claim", data={"list": kept[1].replace("&amp;", "&")}).text
        assert shown(page) == uids[50:], "a step does not throw the reader back to the first page"


def test_the_second_page_begins_where_the_first_ended_though_its_last_row_moved(ledger: sa.Engine):
    uids = many(ledger)
    with at(ledger, "ito") as ito:
        address = following(ito.get("/").text)
        ito.post(f"/study/{uids[49]}/pin")
        assert shown(ito.get(address).text) == uids[50:]
        assert ito.get("/?after=garbage").status_code == 409
        assert ito.get(address.replace("/?", "/?order=patient&")).status_code == 409, "a place of another order"


def test_the_selected_row_that_was_read_is_struck_through_where_it_stood(ledger: sa.Engine):
    uids = many(ledger, 5)
    reading.read(ledger, uids[2], "berg", NOW)
    with at(ledger, "ito") as ito:
        page = ito.get(f"/?at={uids[2]}").text
        assert shown(page) == uids
        assert re.search(rf'class="[^"]* gone at" data-uid="{uids[2]}"', page)
        assert "Open again" in page
        assert shown(ito.get("/").text) == [uids[0], uids[1], uids[3], uids[4]]
        assert shown(ito.get(f"/?at={uids[2]}&from=DX1&order=patient").text) == [uids[0], uids[1], uids[3], uids[4]]


def test_no_page_of_a_long_search_is_large(ledger: sa.Engine):
    name = "山" * 60
    for number in range(55):
        receive(ledger, film(1, f"1.2.{number}", NOW + timedelta(seconds=number), patient_name=f"{name}^{number}"))
    with at(ledger, "ito") as ito:
        answer = ito.get(f"/?q={quote(name)}")
        assert len(shown(answer.text)) == 50
        assert len(answer.content) < 150_000
        kept = re.search(r'id="step"><input type="hidden" name="list" value="([^"]+)"', answer.text)
        assert kept is not None
        assert ito.post("/study/1.2.1/claim", data={"list": kept[1]}).status_code == 200
        assert ito.get(f"/?q={'x' * 101}").status_code == 422


def test_a_search_says_what_it_looked_for_and_where_else_to_look(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", patient_name="Ng^Anna"), film(1, "1.2.2", patient_name="Wu^Bo"))
    reading.read(ledger, "1.2.2", "berg", NOW)
    with at(ledger, "ito") as ito:
        assert shown(ito.get("/?q=Ng").text) == ["1.2.1"]
        nothing = ito.get("/?q=Wu").text
        assert shown(nothing) == []
        elsewhere = re.search(r'href="(/\?[^"]+)">Look among the studies that were read', nothing)
        assert elsewhere is not None
        assert shown(ito.get(elsewhere[1].replace("&amp;", "&")).text) == ["1.2.2"]


def test_an_empty_list_says_when_and_from_whom_the_last_image_came(ledger: sa.Engine):
    with at(ledger, "ito") as ito:
        assert "No open studies." in ito.get("/?order=arrival").text
        assert "Nothing has arrived yet" in ito.get("/").text
    receive(ledger, film(1, "1.2.1", LATER - timedelta(minutes=3), calling_ae="DX-ED-1"))
    reading.read(ledger, "1.2.1", "ito", LATER)
    with at(ledger, "berg") as berg:
        assert "Last arrival 3 min ago from DX-ED-1" in berg.get("/").text


def test_no_column_but_the_two_that_always_stand_may_be_chosen(ledger: sa.Engine):
    many(ledger, 1)
    with at(ledger, "ito") as ito:
        page = ito.post("/columns", data={}).text
        assert re.findall(r'<th scope="col"[^>]*>(?:<a[^>]*>)?\s*(\w+)', page) == ["Due", "Patient"]


def test_lists_that_come_with_prioritizer_tell_how_much_is_in_them(ledger: sa.Engine):
    uids = many(ledger, 3)
    receive(ledger, film(1, "1.9", LATER - timedelta(hours=9)))
    reading.claim(ledger, uids[0], "ito", timedelta(hours=2), NOW)
    with at(ledger, "ito") as ito:
        page = ito.get("/").text
        for name, count in (("last 4 h", 3), ("my claims", 1), ("overdue", 1)):
            assert f"{name} ({count})" in page


# --- what AI thinks ----------------------------------------------------------------------------------------------------


def raised(ledger: sa.Engine, uid: str = "1.2.1") -> None:
    scored(ledger, uid, 0.9, NOW)
    deadlines.mark_overdue(ledger, LATER)


def test_a_list_without_ai_counts_finds_and_alarms_by_arrival(ledger: sa.Engine):
    raised(ledger)
    housekeeping.stand(
        ledger, ("overdue", "raising-suspended"), [Alarm(name=n, said=n, mend="x") for n in ("overdue", "raising-suspended")], LATER
    )
    with at(ledger, "ito") as ito:
        with_ai, blind = ito.get("/").text, ito.get(f"/{BLIND}").text
        assert "overdue 1" in with_ai
        assert "overdue 0" in blind
        assert "overdue (0)" in blind
        for telling in ("raised 1", "raising-suspended", "<b>overdue</b>"):
            assert telling in with_ai.lower() or telling == "raised 1"
            assert telling not in blind.lower()
        assert shown(ito.get("/?overdue=1").text) == ["1.2.1"]
        assert shown(ito.get(f"/{BLIND}&overdue=1").text) == []
        late = ito.get("/api/worklist", params={"order": "arrival", "blind": "1", "overdue": "1"}).json()
        assert late["studies"] == []


def test_the_news_of_a_list_without_ai_are_not_lit_by_the_deadline_that_ai_gave(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.9, NOW)
    with at(ledger, "ito") as ito:
        mark = re.search(r'data-since="([^"]+)"', ito.get("/").text)
        assert mark is not None
        deadlines.mark_overdue(ledger, LATER)
        assert "1 OVERDUE" in ito.get("/changes", params={"since": mark[1]}).text
        assert ito.get("/changes", params={"since": mark[1], "list": BLIND}).text.strip() == ""
        assert ito.get("/api/changes", params={"since": mark[1], "list": BLIND}).json()["overdue"] == 0


@pytest.mark.parametrize("path", ["/", "/system"])
def test_in_stage_shadow_readers_see_no_alarm_that_tells_what_ai_does(ledger: sa.Engine, path: str):
    names = ("board-ppv", "raising-suspended", "overdue")
    housekeeping.stand(ledger, names, [Alarm(name=name, said=f"alarm {name}", mend="x") for name in names], LATER)
    with at(ledger, "ito", stage=Stage.SHADOW) as ito:
        page = ito.get(path).text.lower()
        assert "alarm overdue" in page
        assert "board-ppv" not in page
        assert "raising-suspended" not in page
    with at(ledger, "anna", Role.PHYSICIST, Stage.SHADOW) as anna:
        assert "board-ppv" in anna.get("/system").text


def test_alarms_for_operators_do_not_stand_on_the_list_of_readers(ledger: sa.Engine):
    housekeeping.stand(ledger, ("disk", "expired"), [Alarm(name=n, said=f"alarm {n}", mend="x") for n in ("disk", "expired")], LATER)
    with at(ledger, "ito") as ito:
        assert "alarm disk" not in ito.get("/").text.lower()
        assert "alarm expired" in ito.get("/").text.lower()
    with at(ledger, "chief", Role.ADMIN) as chief:
        assert "alarm disk" in chief.get("/").text.lower()


def test_raised_is_said_to_move_nothing_where_it_moves_nothing(ledger: sa.Engine):
    with at(ledger, "ito", stage=Stage.PILOT) as ito:
        receive(ledger, film(1, "1.2.1"))
        page = ito.get("/").text
        assert "in stage pilot the list stays in order of arrival" in page
        assert "raised = placed earlier" not in page


def test_after_read_shows_nothing_to_who_took_the_word_back(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.9)
    with at(ledger, "ito", reading=Reading(reveal="after-read")) as ito:
        assert ito.post("/study/1.2.1/reveal").status_code == 409
        ito.post("/study/1.2.1/say", data={"finding": "absent"})
        ito.post("/study/1.2.1/withdraw")
        assert ito.post("/study/1.2.1/reveal").status_code == 409
        ito.post("/study/1.2.1/say", data={"finding": "absent"})
        assert "calibrated probability" in ito.post("/study/1.2.1/reveal").text


# --- steps -------------------------------------------------------------------------------------------------------------


def test_a_claim_of_somebody_else_is_released_by_an_administrator_who_was_told_what_is_lost(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"))
    reading.claim(ledger, "1.2.1", "berg", timedelta(hours=2), NOW)
    with at(ledger, "ito") as ito:
        assert "Release" not in ito.get("/").text
        assert ito.get("/study/1.2.1/release").status_code == 403
        assert ito.post("/study/1.2.1/release").status_code == 409
    with at(ledger, "chief", Role.ADMIN) as chief:
        assert 'formmethod="get" formaction="/study/1.2.1/release"' in chief.get("/").text
        asked = chief.get("/study/1.2.1/release").text
        assert "berg has had" in asked
        assert "berg is told" in asked
        chief.post("/study/1.2.1/release")
        assert chief.get("/study/1.2.1/release").status_code == 409
    with at(ledger, "berg") as berg:
        assert "chief released your claim" in berg.get("/study/1.2.1/now", params={"images": 1, "mine": 1}).text


def test_a_note_that_was_not_said_is_never_lost_by_read_and_next(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"))
    with at(ledger, "ito") as ito:
        refused = ito.post("/study/1.2.1/read", data={"note": "left base", "to": "next", "seen": 1})
        assert refused.status_code == 409
        assert "left base" in refused.text
        assert listed(ledger) == ["1.2.1"], "it is not read either"
        ito.post("/study/1.2.1/say", data={"finding": "present"})
        ito.post("/study/1.2.1/read", data={"note": "left base", "to": "next", "seen": 1})
    word = feedback.standing_of(ledger, "1.2.1", "ito")
    assert word is not None
    assert (word.finding, word.note) == (ReaderFinding.PRESENT, "left base")
    assert rows.study(ledger, "1.2.1").reading_state == "READ"


def test_when_nothing_is_left_that_is_said(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"))
    with at(ledger, "ito") as ito:
        answer = ito.post("/study/1.2.1/read", data={"to": "next", "seen": 1})
        assert answer.status_code == 200
        assert "The study is read. Every study of this list is read, or somebody has it." in answer.text
        assert "Every study of this list is read" in ito.post("/next").text


def test_a_slip_is_taken_back_from_the_study_that_came_after_it(ledger: sa.Engine):
    many(ledger, 2)
    with at(ledger, "ito") as ito:
        after = ito.post("/study/1.2.000/read", data={"to": "next", "seen": 1})
        assert "/study/1.2.001" in str(after.url)
        assert 'action="/study/1.2.000/reopen"' in after.text
        assert "claimed by nobody" not in ito.post("/study/1.2.000/reopen", data={"to": "study"}).text
        assert listed(ledger) == ["1.2.000", "1.2.001"]
        assert "slip" not in ito.get(str(after.url)).text, "it is not read any more"
    with at(ledger, "berg") as berg:
        reading.read(ledger, "1.2.000", "ito", LATER)
        assert "slip" not in berg.get("/study/1.2.001?read=1.2.000").text, "it is not theirs to take back here"
    assert kinds(ledger, "1.2.000").count("reopened") == 1


def test_what_cannot_be_gone_on_with_is_told_before_anything_is_done(ledger: sa.Engine):
    many(ledger, 2)
    with at(ledger, "ito", stage=Stage.SHADOW) as ito:
        for query in ("?raised=1", "?utm=x", "?blind=1&order=arrival&utm=x"):
            assert ito.post("/study/1.2.000/read", data={"to": "next", "seen": 1, "list": query}).status_code == 409
        assert listed(ledger) == ["1.2.000", "1.2.001"]
        assert ito.get("/study/1.2.000?list=%3Fblind%3D1%26utm%3Dx").status_code == 409, "not the plain list with AI"


def test_masked_pages_hold_no_number_in_the_links_to_viewers(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", patient_id="PID777", accession_number="ACC888"))
    viewers = (Viewer(name="OHIF", url="https://v.example/?id={patient_id}&acc={accession_number}"),)
    for masked in (False, True):
        settings = Settings(site=Site(stage=Stage.ACTIVE), ranking=Ranking(), reading=Reading(mask_patients=masked), viewers=viewers)
        with at(ledger, f"r{masked}".lower(), settings=lambda s=settings: s) as ito:
            for path in ("/", "/study/1.2.1"):
                assert ("PID777" in ito.get(path).text) is not masked


def test_why_here_is_a_page_of_its_own_without_scripts_and_a_piece_with_them(ledger: sa.Engine):
    raised(ledger)
    with at(ledger, "ito") as ito:
        page = ito.get("/study/1.2.1/why").text
        assert "<html" in page
        assert "never a diagnosis" in page
        piece = ito.get("/study/1.2.1/why", headers={"HX-Request": "true"}).text
        assert "<html" not in piece
        assert "raised: due 30 min after arrival" in unquote(piece)


def test_two_who_sort_a_list_claim_what_they_see(ledger: sa.Engine):
    many(ledger, 3)
    with at(ledger, "ito") as ito:
        page = ito.get("/?order=patient&from=DX1").text
        assert 'formaction="/study/1.2.001/claim"' in page
        ito.post("/study/1.2.001/claim", data={"list": "?order=patient&from=DX1"})
    assert rows.study(ledger, "1.2.001").reader == "ito"
    with pytest.raises(Exception, match="ito has had this study for"):
        reading.claim(ledger, "1.2.001", "berg", LEASE, LATER)


def test_a_look_at_a_study_is_written_down_once_and_again_when_it_is_looked_at_again(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"))
    with at(ledger, "ito") as ito:
        for _ in range(3):
            ito.get("/study/1.2.1")
    assert kinds(ledger, "1.2.1").count("opened") == 1
    reading.opened(ledger, "1.2.1", "berg", LATER)
    reading.opened(ledger, "1.2.1", "ito", LATER + timedelta(minutes=2))
    assert kinds(ledger, "1.2.1").count("opened") == 3
