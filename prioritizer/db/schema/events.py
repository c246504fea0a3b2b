"""What happened, in words: every sentence that the ledger writes about a study stands in this file.

Sentences hold no patient data. They are what `worklist --why` and the study page show.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from prioritizer.db.schema.tables import events


class Kind(StrEnum):
    """The kinds of event; filters and figures count by them."""

    ARRIVED = "arrived"
    LATE = "late-instance"
    GREW = "more-images"
    SCORED = "scored"
    INELIGIBLE = "not-scored"
    FAILED = "failed"
    PLACED = "placed"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    CLAIMED = "claimed"
    RELEASED = "released"
    TAKEN_OVER = "taken-over"
    LEASE_ENDED = "lease-ended"
    OPENED = "opened"
    REVEALED = "revealed"
    SKIPPED = "skipped"
    READ = "read"
    REOPENED = "reopened"
    TRIED = "tried"
    FEEDBACK = "feedback"
    FEEDBACK_WITHDRAWN = "feedback-withdrawn"
    OVERDUE = "overdue"
    EXPIRED = "expired"
    PUBLISHED = "published"
    UNPUBLISHED = "not-published"
    SENT = "sent"
    REJECTED = "rejected"
    RETRACTED = "retracted"
    REQUEUED = "requeued"
    CONFLICT = "conflict"
    COMPLETED = "completed"
    CORRECTED = "corrected"
    IDENTITY = "identity"
    IDENTITY_SETTLED = "identity-settled"
    FILE_FAULT = "file-fault"
    HEALED = "healed"
    CLOCK_STEPPED = "clock-stepped"
    REBUILT = "rebuilt"
    RERANKED = "reranked"
    SUSPENDED = "raising-suspended"
    PIXELS_DELETED = "pixels-deleted"
    RECALIBRATED = "recalibrated"
    BUNDLE_CHANGED = "bundle-changed"
    CALIBRATION_MADE = "calibration-made"
    CALIBRATION_APPROVED = "calibration-approved"
    CALIBRATION_REJECTED = "calibration-rejected"
    CALIBRATION_ACTIVATED = "calibration-activated"
    RULING_PROPOSED = "ruling-proposed"
    RULING_APPROVED = "ruling-approved"
    RULING_ACTIVATED = "ruling-activated"
    RULING_ENDED = "ruling-ended"
    RULING_REJECTED = "ruling-rejected"
    INVITED = "invited"
    PERSON_MADE = "person-made"
    PERSON_DISABLED = "person-disabled"
    PERSON_ENABLED = "person-enabled"
    PASSWORD_SET = "password-set"  # noqa: S105 - a kind of event
    ROLE_SET = "role-set"
    SIGNED_IN = "signed-in"
    SIGN_IN_REFUSED = "sign-in-refused"
    SIGNED_OUT = "signed-out"
    TOKEN_MADE = "token-made"  # noqa: S105 - a kind of event
    TOKEN_REVOKED = "token-revoked"  # noqa: S105 - a kind of event
    LIST_SAVED = "list-saved"
    LIST_DELETED = "list-deleted"
    LIST_GIVEN = "list-given"
    WAY_TESTED = "way-tested"


ITSELF = "prioritizer"
"""The actor of what prioritizer does by itself."""
THROUGH: ContextVar[str] = ContextVar("through", default="")
"""What acts for the person of this request: "token" and its number where a program does, empty where they do it themselves."""


def who(actor: str, detail: Mapping[str, Any] | None) -> str:
    """Who did it, in words: the person, and what they did it through."""
    through = (detail or {}).get("through", "")
    return f"{actor} ({through})" if through else actor


def record(
    tx: sa.Connection,
    kind: Kind,
    said: str,
    now: datetime,
    *,
    study: str | None = None,
    instance: str | None = None,
    actor: str = ITSELF,
    **detail: Any,
) -> None:
    """One event in the caller's transaction; what a program does for somebody is written down with its token."""
    through = THROUGH.get()
    if through and actor != ITSELF and through not in actor:
        detail |= {"through": through}
    tx.execute(events.insert().values(at=now, kind=kind, study_uid=study, sop_instance_uid=instance, actor=actor, said=said, detail=detail))
