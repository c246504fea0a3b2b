"""What readers chose for themselves and for everybody: nothing lost between two pages, and what concerns all is written down."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

import prioritizer
from prioritizer.access import May, Person, Role
from prioritizer.db.audit import audit_log, audit_notes
from prioritizer.db.audit.audit_log import AuditFilter
from prioritizer.db.worklist import preferences
from prioritizer.errors import NotAllowed
from tests.support.ledgers import NOW, together

PROGRAM = Person(name="ito", role=Role.READER, rights=frozenset({May.SEE}), by="token ab12", token="ab12")


def audited(ledger: sa.Engine) -> list[tuple[str, str, str]]:
    """Kind, actor and words of everything in the audit, oldest first."""
    return [(entry.kind, entry.actor, entry.said) for entry in reversed(audit_log.entries(ledger, AuditFilter(), 100))]


def test_pages_that_choose_at_once_lose_nothing(ledger: sa.Engine):
    names = [f"choice {number}" for number in range(8)]
    together(*(partial(preferences.choose, ledger, "ito", name, "kept", NOW) for name in names))
    assert preferences.of(ledger, "ito") == dict.fromkeys(names, "kept")


def test_a_list_saved_twice_at_once_is_kept_once(ledger: sa.Engine):
    together(*(partial(preferences.save_view, ledger, "ito", "night", f"?hours={number}", NOW, by="ito") for number in range(8)))
    found = preferences.views(ledger, "ito")
    assert [view.name for view in found] == ["night"]
    assert found[0].query in {f"?hours={number}" for number in range(8)}


def test_a_list_is_replaced_where_no_more_may_be_kept(ledger: sa.Engine):
    for number in range(preferences.MAX_VIEWS):
        preferences.save_view(ledger, "ito", f"list {number}", "?", NOW, by="ito")
    with pytest.raises(NotAllowed, match="delete one first"):
        preferences.save_view(ledger, "ito", "one more", "?", NOW, by="ito")
    preferences.save_view(ledger, "ito", "list 3", "?hours=3", NOW, by="ito")
    assert {view.name: view.query for view in preferences.views(ledger, "ito")}["list 3"] == "?hours=3"


def test_who_saved_and_deleted_a_list_of_everybody_is_in_the_audit_without_what_it_searches(ledger: sa.Engine):
    preferences.save_view(ledger, "", "night", "?q=Muster", NOW, by="boss")
    preferences.delete_view(ledger, "", "night", NOW, by="chief")
    assert audited(ledger) == [
        ("list-saved", "boss", "saved the list 'night' for everybody"),
        ("list-deleted", "chief", "deleted the list 'night' of everybody"),
    ]


def test_ones_own_lists_are_ones_own_business(ledger: sa.Engine):
    preferences.save_view(ledger, "ito", "night", "?", NOW, by="ito")
    preferences.delete_view(ledger, "ito", "night", NOW, by="ito")
    assert audited(ledger) == []


def test_a_test_of_a_way_is_in_the_audit(ledger: sa.Engine):
    audit_notes.way_tested(ledger, "boss", "pacs", NOW, sent=False)
    audit_notes.way_tested(ledger, "boss", "listener", NOW, sent=True)
    assert audited(ledger) == [
        ("way-tested", "boss", "tested the way to pacs: C-ECHO"),
        ("way-tested", "boss", "tested the way to listener: C-ECHO and a phantom image"),
    ]


def test_a_program_that_asks_all_day_is_in_the_audit_every_five_minutes(ledger: sa.Engine):
    for seconds in (0, 1, 299, 300, 301):
        audit_notes.list_given(ledger, PROGRAM, NOW + timedelta(seconds=seconds))
    assert audited(ledger) == [("list-given", "ito (token ab12)", "was given the list")] * 2
    audit_notes.list_given(ledger, Person(name="berg", role=Role.READER, rights=frozenset({May.SEE}), session="x"), NOW)
    assert len(audited(ledger)) == 2, "a person at the list is no program"


def test_nothing_in_the_program_changes_or_deletes_an_event():
    """The database could be told to refuse it; docs/decisions/0016 says why it is not."""
    folder = Path(prioritizer.__file__).parent
    written = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.py")}
    assert len(written) > 100
    forbidden = ("events.update(", "events.delete(", "update(events)", "delete(events)", "UPDATE events", "DELETE FROM events")
    assert not [path for path, text in written.items() if any(word in text for word in forbidden)]
