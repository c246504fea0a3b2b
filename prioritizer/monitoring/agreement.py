"""Agreement of AI priority with what readers report, and figures that need no report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from prioritizer.calibration.operating_point import Share
from prioritizer.monitoring import unlabelled, verification
from prioritizer.monitoring.studies import MonitoredStudy, StandingFeedback
from prioritizer.monitoring.verification import Estimate
from prioritizer.statistics.intervals import Figure
from prioritizer.study import AIState, ReaderFinding


def asked_for(study_uid: str, share: float) -> bool:
    """True for this share of all studies, by their UID alone: being asked tells nobody what AI thinks."""
    drawn = int.from_bytes(hashlib.sha256(b"a finding is asked for: " + study_uid.encode()).digest()[:8])
    return drawn < share * 2**64


def agreement(studies: Sequence[MonitoredStudy], *, blind: bool | None = None) -> dict[str, Estimate | Share]:
    """Sensitivity, specificity and positive predictive value of raising by what readers found; `blind`: by these words only.

    Each study counts once, by its newest standing word of that kind, also where readers disagree. Sensitivity and specificity are those
    of all scored studies, corrected for which of them readers spoke of (`verification`).
    """
    judged = [(study, band, word) for study, band, word in _judged(studies, blind) if band is not None]
    raised, rest = ([one for one in judged if one[1] is band] for band in (True, False))
    sensitivity, specificity = verification.corrected(_band(raised), _band(rest))
    return {"sensitivity": sensitivity, "specificity": specificity, "ppv": _present(raised)}


def spoken(studies: Sequence[MonitoredStudy], *, blind: bool | None = None) -> dict[str, dict[str, int]]:
    """Of the scored studies of each band, how many there are, of how many a reader said what they found, and in how many it is there."""
    judged = list(_judged(studies, blind))
    bands = {name: _band([one for one in judged if one[1] is raised]) for name, raised in (("raised", True), ("others", False))}
    return {name: {"studies": band.studies, "spoken": band.spoken, "present": band.present} for name, band in bands.items()}


Judged = tuple[MonitoredStudy, bool | None, StandingFeedback | None]
"""A study, whether AI raised it, and the word that counts."""


def _judged(studies: Sequence[MonitoredStudy], blind: bool | None) -> Iterator[Judged]:
    """A study that was spoken of is judged by what AI said then, any other by what it says now."""
    for study in studies:
        word = study.word(blind=blind)
        if word is not None:
            yield study, word.raised, word
        else:
            yield study, study.raised if study.ai_state == AIState.SCORED else None, None


def _present(band: Sequence[Judged]) -> Share:
    """Of those spoken of, the share with the finding, by patient."""
    said = [(study, word) for study, _, word in band if word is not None]
    present = np.array([word.finding == ReaderFinding.PRESENT for _, word in said], dtype=np.bool_)
    return Share.of_patients(present, [study.patient or f"study {place}" for place, (study, _) in enumerate(said)])


def _band(band: Sequence[Judged]) -> verification.VerificationGroup:
    present = _present(band)
    return verification.VerificationGroup(studies=len(band), spoken=present.of, present=present.hits, worth=present.worth)


def label_free(studies: Sequence[MonitoredStudy]) -> dict[str, Figure]:
    """The same from the probabilities alone, for calibrated ones (`unlabelled`); NaN where nothing was scored or raised."""
    scored = [s for s in studies if s.ai_state == AIState.SCORED and s.risk is not None]
    return unlabelled.expected(
        unlabelled.Raising(
            highest=np.array([s.risk for s in scored], dtype=np.float64),
            images=np.array([s.images or 0 for s in scored], dtype=np.int64),
            raised=np.array([s.raised for s in scored], dtype=np.bool_),
        )
    )
