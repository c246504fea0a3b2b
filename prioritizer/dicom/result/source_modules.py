"""Which attributes of a source may stand in a result only together, and which an incomplete module adds empty.

Sources: PS3.3 C.7.1.1 (Patient), C.7.1.3 and C.7.2.3 (Clinical Trial): types 1, 1C and 2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

ONLY_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    "ResponsiblePerson": ("ResponsiblePersonRole",),
    "PatientBirthDateInAlternativeCalendar": ("PatientAlternativeCalendar",),
    "PatientDeathDateInAlternativeCalendar": ("PatientAlternativeCalendar",),
    "PatientIdentityRemoved": ("DeidentificationMethod", "DeidentificationMethodCodeSequence"),
}
"""Attributes that need a value of one of the others."""
TRIAL_SUBJECT: Final = (
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID",
)  # fmt: skip
_OF_A_TRIAL: Final = (
    ("ClinicalTrialSponsorName",), ("ClinicalTrialProtocolID",), ("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
)  # fmt: skip
"""Without a value of one of each there is no Clinical Trial Subject module."""
_EMPTY_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    "ClinicalTrialSponsorName": ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"),
    "ClinicalTrialTimePointDescription": ("ClinicalTrialTimePointID",),
}


def out_of_place(valued: Collection[str]) -> frozenset[str]:
    """Keywords that may not stand in a result whose attributes with a value are these."""
    alone = {keyword for keyword, partners in ONLY_WITH.items() if not any(partner in valued for partner in partners)}
    no_trial = not all(any(keyword in valued for keyword in group) for group in _OF_A_TRIAL)
    return frozenset(alone | set(TRIAL_SUBJECT if no_trial else ()))


def to_be_empty(valued: Collection[str]) -> frozenset[str]:
    """Keywords that must stand in a result, with a value or empty, because these have a value."""
    return frozenset(keyword for present in valued for keyword in _EMPTY_WITH.get(present, ()))
