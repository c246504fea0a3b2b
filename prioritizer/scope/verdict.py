"""What a bundle's scope is, how strictly a site takes each rule, and what a rule found: the words in which eligibility is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Strictness(StrEnum):
    """What a site does with a rule: leave the image unscored, score it with a warning, or not look."""

    ENFORCE = "enforce"
    FLAG = "flag"
    OFF = "off"


class PopulationRule(StrEnum):
    """What a site does with a radiograph of another population or device than in training."""

    UNTIL_CALIBRATED = "until-calibrated"
    """Scored with a warning in stage shadow, and in every stage once a local calibration that was judged fit is in force; else unscored."""
    ENFORCE = "enforce"
    FLAG = "flag"
    OFF = "off"

    def strictness(self, *, holds_back: bool) -> Strictness:
        """What it comes to; `holds_back`: in stages pilot and active without a local calibration that was judged fit."""
        if self is PopulationRule.UNTIL_CALIBRATED:
            return Strictness.ENFORCE if holds_back else Strictness.FLAG
        return Strictness(self.value)


OLDEST = 110.0
"""Years up to which a scope holds every patient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the bundle's card says the model is for."""

    modalities: tuple[str, ...] = ("CR", "DX")
    min_age_years: float = 0.0
    max_age_years: float = 120.0
    views: tuple[str, ...] = ("AP", "PA")
    species: str = "human"

    @property
    def every_age(self) -> bool:
        """No age is outside: that none is stated is then no reason, and the calibration has a rule of its own for it."""
        return self.min_age_years <= 0 and self.max_age_years >= OLDEST


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeRules:
    """The strictness of each scope rule at this site."""

    modality: Strictness = Strictness.ENFORCE
    body_part: Strictness = Strictness.ENFORCE
    view: Strictness = Strictness.ENFORCE
    age: Strictness = Strictness.ENFORCE
    image_type: Strictness = Strictness.ENFORCE
    species: Strictness = Strictness.ENFORCE
    image_kind: Strictness = Strictness.ENFORCE
    out_of_distribution: PopulationRule = PopulationRule.UNTIL_CALIBRATED


NO_RULES = ScopeRules(
    modality=Strictness.OFF, body_part=Strictness.OFF, view=Strictness.OFF, age=Strictness.OFF, image_type=Strictness.OFF,
    species=Strictness.OFF, image_kind=Strictness.OFF, out_of_distribution=PopulationRule.OFF,
)  # fmt: skip
"""Nothing is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeFinding:
    """One rule that an image does not meet: which, and the sentence for people."""

    rule: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeVerdict:
    """May the image be scored? `reason` when not; `warnings` are shown with the score."""

    reason: ScopeFinding | None
    warnings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    """Those warnings that say how the image was drawn: where it then looks strange, they are the reason."""

    @property
    def eligible(self) -> bool:
        """True when the image may be scored."""
        return self.reason is None


def printable(text: str) -> str:
    """A peer's code string, cut and stripped of everything but letters, digits, blanks and a few signs."""
    return re.sub(r"[^\w .,+/-]", "?", text)[:32] or "(empty)"


def age_words(years: float) -> str:
    """An age as a clinician writes it: days, months or years."""
    if years < 31 / 365.25:
        return f"{round(years * 365.25)} days"
    if years < 2:
        return f"{round(years * 12)} months"
    return f"{int(years)} years"


MAX_REASON = 300
"""Characters of a reason that the ledger keeps."""
