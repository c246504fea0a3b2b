"""Images that could not be scored: found without reading every image, scored again one or all, or given up with a reason."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from rich.console import Console
from typer.testing import CliRunner

from prioritizer.access import Role
from prioritizer.cli import print_worklist
from prioritizer.cli.app import app
from prioritizer.config.settings import Settings
from prioritizer.db.activity import queues, senders
from prioritizer.db.processing import daemon_start, requeue, score
from prioritizer.db.schema.tables import instances
from prioritizer.db.worklist import rows
from prioritizer.db.worklist import study as worklist_study
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.states import InstanceState
from tests.support.daemons import prioritizer, sections, toml
from tests.support.ledgers import LEASE, NOW, POLICY, film, kinds, listed, plans_of, publish, receive, score_next
from tests.support.page_client import LATER, at


def fail_next(ledger: sa.Engine, text: str = "the pixels cannot be read") -> None:
    claim = score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    assert score.finish_unscored(ledger, claim, InstanceState.FAILED, "pixels", text, POLICY, NOW)


def failed(ledger: sa.Engine, *studies: str) -> None:
    for number, study in enumerate(studies):
        receive(ledger, film(1, study, NOW + timedelta(seconds=number)))
        fail_next(ledger)


def pixels_gone(ledger: sa.Engine, uid: str) -> None:
    with ledger.begin() as tx:
        tx.execute(instances.update().where(instances.c.sop_instance_uid == uid).values(pixels_deleted_at=NOW))


def states(ledger: sa.Engine, study: str) -> list[str]:
    return [one.state for one in worklist_study.study_instances(ledger, study)]


# --- found -------------------------------------------------------------------------------------------------------------


def test_every_image_that_failed_is_found_the_newest_first(ledger: sa.Engine):
    failed(ledger, "1.2.1", "1.2.2")
    receive(ledger, film(1, "1.2.3", NOW + timedelta(minutes=1)), unreadable="the header cannot be read")
    receive(ledger, film(1, "1.2.4"), film(2, "1.2.4"), now=NOW + timedelta(minutes=2))
    score_next(ledger, 0.2)
    fail_next(ledger)
    found = queues.failed_instances(ledger, 10)
    assert [one.study_uid for one in found.rows] == ["1.2.3", "1.2.2", "1.2.1", "1.2.4"]
    assert (found.total, found.cut) == (4, "")
    assert queues.failed_instances(ledger, 3).cut == "the newest 3 of 4"


def test_neither_failed_images_nor_refusals_are_found_by_reading_everything(ledger: sa.Engine):
    failed(ledger, "1.2.1")
    if ledger.dialect.name != "sqlite":
        pytest.skip("the planner of the other database reads small tables whole")
    plans = plans_of(ledger, lambda: queues.failed_instances(ledger, 1))
    plans += plans_of(ledger, lambda: queues.unfinished_deliveries(ledger, 1))
    plans += plans_of(ledger, lambda: senders.newest_notices(ledger, 1))
    plans += plans_of(ledger, lambda: senders.last_refusals(ledger, {"DX1"}, NOW))
    plans += plans_of(ledger, lambda: senders.refused_since(ledger, NOW))
    whole = [
        plan
        for plan in plans
        if plan.startswith("SCAN ") and plan.split()[1] in ("instances", "studies", "events", "notices", "deliveries")
    ]
    assert [plan for plan in whole if "ix_deliveries_unfinished" not in plan] == []
    assert any("ix_notices_kind_at" in plan for plan in plans)
    assert any("ix_events_kind_at" in plan for plan in plans)


# --- scored again ------------------------------------------------------------------------------------------------------


def test_all_that_failed_is_scored_again_but_what_has_no_pixels_left(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(requeue, "A_TURN", 2)
    failed(ledger, "1.2.1", "1.2.2", "1.2.3", "1.2.4")
    pixels_gone(ledger, "1.2.2.1")
    receive(ledger, film(1, "1.2.5"))
    claim = score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    score.finish_unscored(ledger, claim, InstanceState.INELIGIBLE, "age", "an adult", POLICY, NOW)
    found = requeue.requeue_failed(ledger, "chief", POLICY, LATER)
    assert (found.again, found.gone) == (3, 1)
    assert [states(ledger, f"1.2.{number}") for number in range(1, 6)] == [
        ["RECEIVED"],
        ["FAILED"],
        ["RECEIVED"],
        ["RECEIVED"],
        ["INELIGIBLE"],
    ]
    assert rows.study(ledger, "1.2.1").ai_state == "WAITING"


def test_an_administrator_scores_all_again_and_is_told_what_that_did(ledger: sa.Engine):
    failed(ledger, "1.2.1", "1.2.2", "1.2.3")
    pixels_gone(ledger, "1.2.3.1")
    with at(ledger, "chief", Role.ADMIN) as chief:
        page = chief.get("/system").text
        assert "Score all again" in page
        assert "Every failed image" in page, "what will happen is said beside the button"
        done = chief.post("/system/again/score-all")
        assert "2 images wait for a score again. Of 1 the pixels were deleted" in done.text
    assert "chief" in [event.who for event in worklist_study.why(ledger, "1.2.1")]
    with at(ledger, "ito") as ito:
        assert "Score all again" not in ito.get("/system").text
        assert ito.post("/system/again/score-all").status_code == 403


# --- given up ----------------------------------------------------------------------------------------------------------


def test_a_discarded_image_is_not_scored_and_its_study_stays_on_the_list(ledger: sa.Engine):
    failed(ledger, "1.2.1", "1.2.2")
    assert requeue.discard_failed(ledger, "1.2.1.1", "chief", "  a wedge,\n no film ", POLICY, LATER) == 1
    row = rows.study(ledger, "1.2.1")
    assert (row.ai_state, row.ai_reason, row.band) == ("NOT_SCORED", "discarded: a wedge, no film", "NEUTRAL")
    assert listed(ledger) == ["1.2.1", "1.2.2"]
    last = worklist_study.why(ledger, "1.2.1")[-1]
    assert (last.kind, last.who, last.said) == ("not-scored", "chief", "not scored: discarded: a wedge, no film")
    assert [one.study_uid for one in queues.failed_instances(ledger, 9).rows] == ["1.2.2"]
    assert queues.done(ledger, LATER)["score"] == "2 images", "no station discarded it"


def test_a_discarded_image_leaves_the_score_of_its_study_as_it_is(ledger: sa.Engine):
    receive(ledger, film(1), film(2))
    score_next(ledger, 0.9)
    fail_next(ledger)
    before = rows.study(ledger, "1.2.3")
    requeue.discard_failed(ledger, "1.2.3", "chief", "a wedge", POLICY, LATER)
    after = rows.study(ledger, "1.2.3")
    assert (after.ai_state, after.band, after.due_at) == ("SCORED", "HIGH", before.due_at)
    assert sorted(states(ledger, "1.2.3")) == ["INELIGIBLE", "SCORED"]


def test_only_what_failed_is_discarded_and_never_without_a_reason(ledger: sa.Engine):
    failed(ledger, "1.2.1")
    receive(ledger, film(1, "1.2.2"))
    for uid, reason, error in (
        ("1.2.1", " \n", NotAllowed), ("1.2.1", "x" * 301, NotAllowed), ("1.2.2", "why", NotAllowed), ("9.9", "why", NotFound),
    ):  # fmt: skip
        with pytest.raises(error):
            requeue.discard_failed(ledger, uid, "chief", reason, POLICY, LATER)
    assert states(ledger, "1.2.1") == ["FAILED"]
    assert states(ledger, "1.2.2") == ["RECEIVED"]


def test_what_was_discarded_may_be_scored_again_by_a_person_and_by_no_other_bundle(ledger: sa.Engine):
    failed(ledger, "1.2.1")
    requeue.discard_failed(ledger, "1.2.1", "chief", "a wedge", POLICY, LATER)
    with ledger.begin() as tx:
        daemon_start._judge_again(tx, "1.2.1")
    assert states(ledger, "1.2.1") == ["INELIGIBLE"]
    assert requeue.requeue(ledger, "1.2.1", "chief", POLICY, LATER) == 1
    assert kinds(ledger, "1.2.1")[-1] == "requeued"


def test_an_administrator_discards_an_image_on_the_page(ledger: sa.Engine):
    failed(ledger, "1.2.1", "1.2.2")
    with at(ledger, "chief", Role.ADMIN) as chief:
        assert chief.post("/system/discard", data={"image": "1.2.1.1", "reason": " "}).status_code == 409
        page = chief.post("/system/discard", data={"image": "1.2.1.1", "reason": "a <b>wedge</b>"})
        assert page.status_code == 200
        assert 'value="1.2.1.1"' not in page.text
        assert 'value="1.2.2.1"' in page.text
        assert "the study stays on the list" in page.text, "what will happen is said beside the button"
        assert "discarded: a &lt;b&gt;wedge&lt;/b&gt;" in chief.get("/study/1.2.1").text
    with at(ledger, "ito") as ito:
        assert ito.post("/system/discard", data={"image": "1.2.2.1", "reason": "x"}).status_code == 403


def test_results_that_have_not_arrived_are_cut_with_a_word_too(ledger: sa.Engine):
    receive(ledger, film(1))
    score_next(ledger, 0.9)
    publish(ledger, "2.25.1", ("pacs", "archive"))
    assert queues.unfinished_deliveries(ledger, 1).cut == "the first 1 of 2"
    assert len(queues.unfinished_deliveries(ledger, 9).rows) == 2


# --- the same verbs on the command line --------------------------------------------------------------------------------


def said_by(ledger: sa.Engine, folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code of `requeue`, and what it says."""
    file = folder / "prioritizer.toml"
    store = {"data": str(folder), "url": ledger.url.render_as_string(hide_password=False)}
    file.write_text(toml(sections(store=store)), encoding="utf-8")
    done = prioritizer("requeue", *arguments, "--config", str(file), cwd=folder, COLUMNS="200")
    return done.returncode, done.stderr


def test_the_command_line_scores_all_again_and_tells_what_cannot_be(ledger: sa.Engine, tmp_path: Path):
    failed(ledger, "1.2.1", "1.2.2", "1.2.3")
    pixels_gone(ledger, "1.2.2.1")
    code, said = said_by(ledger, tmp_path, "--all")
    assert code == 0
    assert "2 images will be scored again; of 1 the pixels were deleted" in said
    assert [states(ledger, f"1.2.{number}") for number in (1, 2, 3)] == [["RECEIVED"], ["FAILED"], ["RECEIVED"]]


def test_the_command_line_discards_an_image_or_all_that_failed_of_a_study(ledger: sa.Engine, tmp_path: Path):
    failed(ledger, "1.2.1", "1.2.2")
    assert said_by(ledger, tmp_path, "1.2.1.1", "--discard", "a wedge")[0] == 0
    assert said_by(ledger, tmp_path, "1.2.2", "--discard", "a phantom")[0] == 0
    assert [rows.study(ledger, uid).ai_reason for uid in ("1.2.1", "1.2.2")] == ["discarded: a wedge", "discarded: a phantom"]
    code, said = said_by(ledger, tmp_path, "1.2.2", "--discard", "again")
    assert code != 0
    assert "no failed image" in said


def test_what_is_given_up_is_named_and_never_everything_at_once():
    for arguments in (
        ("--all", "--discard", "x"),
        ("1.2.1", "--discard", "x", "--deliveries"),
        ("1.2.1", "--discard", "x", "--give-up", "y"),
    ):
        assert CliRunner().invoke(app, ["requeue", *arguments]).exit_code == 2


def test_the_status_says_where_its_lists_are_cut(ledger: sa.Engine):
    failed(ledger, *(f"1.2.{number}" for number in range(22)))
    out = StringIO()
    print_worklist.show_status(ledger, Settings(), as_json=False, out=Console(file=out, width=200))
    assert out.getvalue().count("not scored  1.2.") == 20
    assert "the newest 20 of 22 images that could not be scored" in out.getvalue()
