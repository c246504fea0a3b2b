"""What a study page shows of AI: the deciding image, and how far an image is from the training data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prioritizer.access import Person
from prioritizer.db.decisions import calibrations
from prioritizer.db.worklist import feedback
from prioritizer.db.worklist.feedback import ReaderFeedback
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.db.worklist.study import InstanceRow
from prioritizer.ranking.deadlines import Stage
from prioritizer.scope.guard_rules import OUT_OF_DISTRIBUTION
from prioritizer.states import InstanceState
from prioritizer.study import AIState
from prioritizer.web.http.context import RequestContext
from prioritizer.web.view import wording
from prioritizer.web.view.list_query import ListQuery
from prioritizer.web.view.list_view import manner_of


@dataclass(frozen=True, slots=True, kw_only=True)
class AI:
    """What the panel says of AI, as far as this reader may see it now."""

    state: str
    """scored, not scored, waiting, failed: in words, with the reason."""
    hidden: str = ""
    """Why the result is not shown, with what would show it; empty where it is."""
    probability: float | None = None
    t_high: float | None = None
    finding: str = ""
    """What the probability is of."""
    assumed_ages: str = ""
    """Whose map was asked for want of an age; empty where the age is known, or one map is for everybody."""
    seen: datetime | None = None
    deciding: InstanceRow | None = None
    images: int = 1
    """That were scored."""


def ai_of(context: RequestContext, person: Person, row: WorklistRow, instances: list[InstanceRow], said: list[ReaderFeedback]) -> AI:
    """The panel. The reveal is decided here and again where the heat map is asked for, never in the browser."""
    manner = manner_of(context)
    seen = feedback.seen_at(context.engine, row.study_uid, person.eyes)
    if row.ai_state != AIState.SCORED:
        return AI(state=wording.ai_words(row, manner), seen=seen)
    state = wording.ai_words(row, manner) if seen else "scored"
    hidden = why_hidden(context, person, said) or ("" if seen else "not asked for yet")
    if hidden:
        return AI(state=state, hidden=hidden, seen=seen)
    scored = [one for one in instances if one.state == InstanceState.SCORED and one.probability is not None]
    deciding = max(scored, key=lambda one: (one.probability or 0.0, one.logit or 0.0), default=None)
    applies = calibrations.applying(context.engine, context.backend.policy())
    t_high, _ = applies.policy.ranking.thresholds(row.age_years)
    whole = applies.calibration
    return AI(
        state=state,
        probability=row.risk,
        t_high=t_high,
        finding=whole.for_age(row.age_years).finding if whole else "",
        assumed_ages=str(whole.group_of(None)) if whole and whole.groups and row.age_years is None else "",
        seen=seen,
        deciding=deciding,
        images=len(scored),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Far:
    """How far an image lies from the training data, as a share of the limit in force."""

    share: float | None
    """Above 1 it is beyond; None where it is not known: nothing measured it, another bundle did, or AI is off."""
    own_limit: bool = False
    """The limit is this site's own, of the calibration in force; else the bundle's."""


def far_of(context: RequestContext, instances: list[InstanceRow]) -> dict[str, Far]:
    """Of every image that was scored, or left unscored for it."""
    rules = calibrations.applying(context.engine, context.backend.policy())
    digest = rules.policy.bundle_digest
    found = {}
    for one in instances:
        if one.state == InstanceState.SCORED or one.reason == OUT_OF_DISTRIBUTION:
            known = one.out_of_distribution is not None and one.measured_by == digest
            share = (one.out_of_distribution or 0.0) / rules.limit if known else None
            found[one.sop_instance_uid] = Far(share=share, own_limit=known and rules.local_limit is not None)
    return found


def why_hidden(context: RequestContext, person: Person, said: list[ReaderFeedback]) -> str:
    """What stands in the way of showing AI's result to this reader; empty where nothing does."""
    if context.backend.settings().site.stage is Stage.SHADOW:
        return "stage shadow: AI is being measured and shows nothing"
    if context.backend.settings().reading.reveal == "after-read" and not any(
        word.reader == person.name and word.withdrawn_at is None for word in said
    ):
        return "shown here after you have said what you found"
    return ""


def told_already(context: RequestContext, asked: ListQuery) -> str:
    """What the list has told of AI's opinion before the study was opened; empty for one without AI, in order of arrival."""
    if not asked.ranked or not context.shows_ai:
        return ""
    by = "place" if context.backend.settings().site.stage is Stage.ACTIVE else "mark"
    return f"Its {by} on the list has told you already whether it was raised."
