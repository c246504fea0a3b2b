"""The age of a patient: as stated, and by the dates of birth and study."""

from __future__ import annotations

import re
from datetime import date

AGE_UNITS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
OLDEST = 120.0
AGE_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime")
"""What says when the image was taken, the first that can be read."""
DEFAULT_AGE_DOUBTED = 2.0
"""Years between an age of zero, which some devices write for every patient, and the dates, from which on the dates count."""


def age_in_years(age: str, birth_date: str, study_date: str) -> float | None:
    """(0010,1010) Patient's Age, or study date less birth date; None when neither can be understood.

    An age of zero that the dates deny is the default of a device, and the dates count.
    """
    stated, by_dates = stated_age(age), age_by_dates(birth_date, study_date)
    if stated == 0 and by_dates is not None and by_dates > DEFAULT_AGE_DOUBTED:
        return by_dates
    return by_dates if stated is None else stated


def stated_age(age: str) -> float | None:
    """(0010,1010) Patient's Age in years; None where it is none.

    An age without unit is taken as years (26,684 files of one public archive are so); over 120 years is not an age.
    """
    match = re.fullmatch(r"(\d{1,3})\s?([YMWD]?)", age.strip().upper(), re.ASCII)
    if match is None:
        return None
    years = int(match[1]) * AGE_UNITS[match[2] or "Y"]
    return years if years <= OLDEST and not (years == 0 and not match[2]) else None


def age_by_dates(birth_date: str, study_date: str) -> float | None:
    """Study date less birth date in years; None where one cannot be understood or they are no life apart."""
    born, studied = day_of(birth_date), day_of(study_date)
    if born is None or studied is None or not 0 <= (studied - born).days <= OLDEST * 365.25:
        return None
    return (studied - born).days / 365.25


def day_of(text: str) -> date | None:
    """A date of DICOM, also as ACR-NEMA wrote it and with the time behind it; None where it is none."""
    match = re.match(r"(\d{4})([.-]?)(\d\d)\2(\d\d)(?!\d)|(\d{4})(\d\d)(\d\d)\d{2,}", text.strip(), re.ASCII)
    if match is None:
        return None
    year, month, day = (match[1], match[3], match[4]) if match[1] else (match[5], match[6], match[7])
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None
