"""What readers say of a study is kept with what they had seen of AI."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.people_tables import feedback
from prioritizer.db.worklist import feedback as worklist_feedback
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.study import ReaderFinding
from tests.support.ledgers import NOW, film, kinds, receive, scored, together


def test_a_word_before_and_after_the_ai_result_was_shown(ledger: sa.Engine):
    scored(ledger, probability=0.9)
    worklist_feedback.say(ledger, "1.2.3", "dr-a", ReaderFinding.ABSENT, NOW, ranked=True)
    worklist_feedback.revealed(ledger, "1.2.3", "dr-b", NOW)
    worklist_feedback.revealed(ledger, "1.2.3", "dr-b", NOW + timedelta(minutes=1))
    worklist_feedback.say(ledger, "1.2.3", "dr-b", ReaderFinding.PRESENT, NOW, ranked=False, note="  lower\n right ")
    one, other = worklist_feedback.said_of(ledger, "1.2.3")
    assert (one.finding, one.seen, one.ranked, one.band, one.risk) == ("absent", False, True, "HIGH", 0.9)
    assert (other.finding, other.seen, other.ranked, other.note) == ("present", True, False, "lower right")
    assert kinds(ledger).count("revealed") == 1
    assert worklist_feedback.seen_at(ledger, "1.2.3", ("dr-b",)) == NOW
    assert worklist_feedback.seen_at(ledger, "1.2.3", "dr-a") is None


def test_what_one_reader_saw_says_nothing_of_another(ledger: sa.Engine):
    scored(ledger, probability=0.9)
    worklist_feedback.revealed(ledger, "1.2.3", "dr-b", NOW)
    worklist_feedback.say(ledger, "1.2.3", "dr-a", ReaderFinding.UNSURE, NOW, ranked=True)
    assert not worklist_feedback.said_of(ledger, "1.2.3")[0].seen


def test_the_newest_word_counts_and_none_is_lost(ledger: sa.Engine):
    scored(ledger)
    for finding in (ReaderFinding.ABSENT, ReaderFinding.UNSURE, ReaderFinding.PRESENT):
        worklist_feedback.say(ledger, "1.2.3", "dr-a", finding, NOW, ranked=True)
    words = worklist_feedback.said_of(ledger, "1.2.3")
    assert [word.finding for word in words] == ["absent", "unsure", "present"]
    assert [word.withdrawn_at is None for word in words] == [False, False, True]
    worklist_feedback.withdraw(ledger, "1.2.3", "dr-a", NOW)
    assert all(word.withdrawn_at for word in worklist_feedback.said_of(ledger, "1.2.3"))
    with pytest.raises(NotAllowed, match="nothing"):
        worklist_feedback.withdraw(ledger, "1.2.3", "dr-a", NOW)


def test_two_keys_at_once_leave_one_word_in_force(ledger: sa.Engine):
    scored(ledger)
    together(
        *(
            lambda f=f: worklist_feedback.say(ledger, "1.2.3", "dr-a", f, NOW, ranked=True)
            for f in (ReaderFinding.PRESENT, ReaderFinding.ABSENT) * 2
        )
    )
    with connect.reading(ledger) as tx:
        in_force = tx.scalar(sa.select(sa.func.count()).select_from(feedback).where(feedback.c.withdrawn_at.is_(None)))
    assert in_force == 1
    assert len(worklist_feedback.said_of(ledger, "1.2.3")) == 4


def test_a_word_on_a_study_without_a_score(ledger: sa.Engine):
    receive(ledger, film())
    worklist_feedback.say(ledger, "1.2.3", "dr-a", ReaderFinding.PRESENT, NOW, ranked=True)
    (word,) = worklist_feedback.said_of(ledger, "1.2.3")
    assert (word.risk, word.ai_state) == (None, "WAITING")


def test_what_cannot_be_said(ledger: sa.Engine):
    receive(ledger, film())
    with pytest.raises(NotFound):
        worklist_feedback.say(ledger, "9.9", "dr-a", ReaderFinding.PRESENT, NOW, ranked=True)
    with pytest.raises(NotFound):
        worklist_feedback.revealed(ledger, "9.9", "dr-a", NOW)
    with pytest.raises(NotAllowed, match="500"):
        worklist_feedback.say(ledger, "1.2.3", "dr-a", ReaderFinding.PRESENT, NOW, ranked=True, note="x" * 501)
    assert not worklist_feedback.said_of(ledger, "1.2.3")
