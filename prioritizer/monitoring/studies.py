"""The rows that the dashboard is computed from: studies as they were scored and read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

MAX_AE = 16
"""Characters of an AE title (PS3.5 6.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingFeedback:
    """A reader's standing word on a study: the finding is there or is not. Who could not say has said nothing here."""

    finding: str
    """present or absent."""
    blind: bool
    """The reader knew neither AI's result nor the order it gave."""
    raised: bool | None
    """AI had raised the study when this was said, or did when it scored later; None where it has not scored it."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Images of a study by how far they lie from the training data, by the limit that was in force when each was judged."""

    drawn: int = 0
    """Of which that was asked."""
    scored: int = 0
    """Beyond the limit, and scored."""
    left_out: int = 0
    """Beyond the limit, and left unscored for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoredStudy:
    """One study of the period."""

    arrived: datetime
    began: datetime | None
    """When its reader took it up; None where it is unread."""
    read: datetime | None
    stat: bool
    raised: bool
    later: bool = False
    """The site placed it later than the order of arrival."""
    overdue: bool
    ai_state: str
    reason: str
    """Why AI did not score it, as a word."""
    risk: float | None
    """The highest calibrated probability of its images; where it has several, `images` says how many that was the highest of."""
    sender: str
    age_years: float | None
    sex: str
    said: tuple[StandingFeedback, ...] = ()
    """What readers say, the newest last."""
    images: int | None = None
    """Scored images; None where their number is not known."""
    patient: str = ""
    """Tells patients apart and says nothing of them; empty: of a patient of its own."""
    asked: bool = False
    """It is in the random sample of which a finding is asked for."""
    beyond: Beyond = Beyond()
    """Its images beyond the limit of the training data."""

    @property
    def unlike(self) -> bool:
        """An image of it is of another population or device than in training, scored or not."""
        return self.beyond.scored + self.beyond.left_out > 0

    def word(self, *, blind: bool | None = None) -> StandingFeedback | None:
        """The one word that counts: the newest, or with `blind` the newest of that kind. So no study counts twice."""
        return next((one for one in reversed(self.said) if blind is None or one.blind is blind), None)
