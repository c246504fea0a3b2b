"""Another bundle takes over: what the one before it made of a study places nobody, and is made again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import SitePolicy
from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.processing import daemon_start, deliver, requeue
from prioritizer.db.processing import score as processing_score
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import events, instances
from prioritizer.db.worklist import reading, rows, study
from prioritizer.errors import NotAllowed
from prioritizer.states import InstanceState
from prioritizer.study import Logit
from prioritizer.web.view.wording import Manner, ai_words
from tests.support.ledgers import AT_ONCE, LEASE, NOW, film, kinds, receive, score_of, site_policy

OLD, NEW = "a" * 64, "b" * 64
OWN = Calibration(id="own", method="temperature", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1, n=500, events=100)
LATER = NOW + timedelta(minutes=1)


def site(bundle: str) -> SitePolicy:
    return site_policy(t_high=OWN.t_high, t_low=OWN.t_low, bundle_digest=bundle, own=OWN, max_high_share=1.0)


def score(ledger: sa.Engine, bundle: str, logit: float) -> None:
    """The next instance, by the bundle in service."""
    claim = processing_score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    made = score_of(None, logit=Logit(logit), bundle_digest=bundle)
    assert processing_score.finish_scored(ledger, claim, made, site(bundle), NOW)


def raised(ledger: sa.Engine, uid: str = "1.2.3", bundle: str = OLD, images: int = 1) -> rows.WorklistRow:
    receive(ledger, *(film(number, uid) for number in range(1, images + 1)), policy=site(bundle))
    for _ in range(images):
        score(ledger, bundle, 3.0)
    assert row(ledger, uid).band == "HIGH"
    return row(ledger, uid)


def row(ledger: sa.Engine, uid: str = "1.2.3") -> rows.WorklistRow:
    return rows.study(ledger, uid)


def take_over(ledger: sa.Engine, bundle: str = NEW) -> int:
    """What the daemon does at every start."""
    return daemon_start.another_bundle(ledger, site(bundle), LATER)


def said_of_change(ledger: sa.Engine) -> list[str]:
    with ledger.connect() as tx:
        return list(tx.scalars(sa.select(events.c.said).where(events.c.kind == "bundle-changed").order_by(events.c.id)))


def test_a_study_that_another_bundle_raised_stands_in_order_of_arrival_until_this_one_scored_it(ledger: sa.Engine) -> None:
    raised(ledger)
    assert take_over(ledger) == 1
    stale = row(ledger)
    assert (stale.ai_state, stale.band, stale.risk, stale.due_at) == ("WAITING", "NEUTRAL", None, NOW + site(NEW).ranking.neutral)
    assert ai_words(stale, Manner()) == f"waiting: stale model, scored by bundle {OLD[:12]}"
    score(ledger, NEW, 2.0)
    fresh = row(ledger)
    assert (fresh.ai_state, fresh.band, fresh.ai_reason) == ("SCORED", "HIGH", "")
    assert fresh.risk == pytest.approx(OWN.probability(2.0))
    assert study.study_instances(ledger, "1.2.3")[0].bundle_digest == NEW
    assert kinds(ledger).count("requeued") == 1
    assert said_of_change(ledger) == [f"bundle {NEW[:12]} serves now, after bundle {OLD[:12]} (activation 0)"]


def test_the_same_bundle_takes_nothing_back(ledger: sa.Engine) -> None:
    before = raised(ledger)
    assert take_over(ledger, OLD) == 0
    assert row(ledger) == before
    assert said_of_change(ledger) == []


def test_without_a_model_scores_stand_as_they_were_made(ledger: sa.Engine) -> None:
    before = raised(ledger)
    assert daemon_start.another_bundle(ledger, site_policy(), LATER) == 0
    assert row(ledger) == before


def test_a_bundle_that_comes_back_scores_again_and_nothing_collides(ledger: sa.Engine) -> None:
    raised(ledger)
    take_over(ledger)
    score(ledger, NEW, -2.0)
    assert row(ledger).band == "NEUTRAL"
    assert take_over(ledger, OLD) == 1
    score(ledger, OLD, 3.0)
    image = study.study_instances(ledger, "1.2.3")[0]
    assert (row(ledger).band, image.bundle_digest, image.activation) == ("HIGH", OLD, 1)
    assert take_over(ledger, OLD) == 0


def test_a_bundle_that_went_before_it_scored_anything_leaves_what_was_there(ledger: sa.Engine) -> None:
    before = raised(ledger)
    take_over(ledger)
    assert take_over(ledger, OLD) == 0
    score(ledger, OLD, 3.0)
    after = row(ledger)
    assert (after.band, after.ai_state, after.risk) == (before.band, "SCORED", before.risk)
    assert len(study.study_instances(ledger, "1.2.3")) == 1


def test_a_local_calibration_survives_that_its_bundle_was_away(ledger: sa.Engine) -> None:
    raised(ledger)
    fit = CandidateVerdict(word="fit to activate", said="It separates well.", report="")
    calibrations.add(ledger, OLD, replace(OWN, id="local", t_high=0.9), fit, "anna", NOW)
    activation.activate(ledger, "local", Decision(who="berta"), site(OLD), NOW)
    take_over(ledger)
    score(ledger, NEW, -2.0)
    take_over(ledger, OLD)
    score(ledger, OLD, 3.0)
    image = study.study_instances(ledger, "1.2.3")[0]
    assert (image.calibration_id, calibrations.applying(ledger, site(OLD)).policy.ranking.t_high) == ("local", 0.9)
    activation.roll_back(ledger, "berta", site(OLD), LATER, expected=calibrations.applying(ledger, site(OLD)).activation)
    assert study.study_instances(ledger, "1.2.3")[0].calibration_id == "own"


def test_what_was_outside_the_scope_of_another_bundle_is_judged_again(ledger: sa.Engine) -> None:
    raised(ledger)
    receive(ledger, film(1, "1.2.4"), policy=site(OLD))
    claim = processing_score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    processing_score.finish_unscored(
        ledger, claim, InstanceState.INELIGIBLE, "age", "age 44 years is outside 0 to 17 years", site(OLD), NOW
    )
    assert take_over(ledger) == 2
    assert (row(ledger, "1.2.4").ai_state, row(ledger, "1.2.4").ai_reason) == ("WAITING", "")


def test_pixels_that_are_gone_are_said_and_the_study_stays_on_the_list(ledger: sa.Engine) -> None:
    raised(ledger)
    with connect.writing(ledger) as tx:
        tx.execute(instances.update().values(pixels_deleted_at=NOW))
    take_over(ledger)
    gone = row(ledger)
    assert (gone.ai_state, gone.band) == ("NOT_SCORED", "NEUTRAL")
    assert ai_words(gone, Manner()) == f"not scored: stale model, scored by bundle {OLD[:12]} and its pixels are gone: send it again"


def test_a_study_that_was_read_keeps_its_score_until_it_is_opened_again(ledger: sa.Engine) -> None:
    raised(ledger)
    reading.read(ledger, "1.2.3", "anna", NOW)
    before = row(ledger)
    assert take_over(ledger) == 0
    assert row(ledger) == before
    receive(ledger, film(2), policy=site(NEW))
    late = row(ledger)
    assert (late.ai_state, late.band, late.reading_state) == ("WAITING", "NEUTRAL", "OPEN")
    assert {image.state for image in study.study_instances(ledger, "1.2.3")} == {"RECEIVED"}


def test_nothing_of_the_other_bundle_is_published_meanwhile(ledger: sa.Engine) -> None:
    raised(ledger)
    take_over(ledger)
    assert deliver.claim_study(ledger, "publisher", LEASE, LATER + AT_ONCE.ceiling) is None
    score(ledger, NEW, 3.0)
    claim = deliver.claim_study(ledger, "publisher", LEASE, LATER + AT_ONCE.ceiling)
    assert claim is not None
    assert claim.bundle_digest == NEW


def test_a_person_cannot_have_a_score_made_again_that_would_come_out_the_same(ledger: sa.Engine) -> None:
    raised(ledger)
    with pytest.raises(NotAllowed, match="nothing to score again"):
        requeue.requeue(ledger, "1.2.3", "op", site(OLD), LATER)


def test_many_open_studies_are_taken_back_in_turns(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        raised(ledger, f"1.2.{number + 3}", images=2)
    monkeypatch.setattr(daemon_start, "A_TURN", 2)
    assert take_over(ledger) == 5
    assert {row(ledger, f"1.2.{number + 3}").ai_state for number in range(5)} == {"WAITING"}
