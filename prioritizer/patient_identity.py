"""Whose study is it? Particulars of a patient compared: what contradicts, what only completes.

Empty never contradicts. A Patient ID is told with its issuer: two hospitals may give one number to two people.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from prioritizer.study import Instance

LABELS = {
    "patient_id": "Patient ID",
    "issuer": "issuer of the Patient ID",
    "patient_name": "name",
    "patient_birth_date": "birth date",
    "patient_sex": "sex",
    "accession_number": "accession number",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Particulars:
    """What an object states of its patient and order; texts as sent, empty where nothing is stated."""

    patient_id: str = ""
    issuer: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    accession_number: str = ""


def particulars_of(instance: Instance) -> Particulars:
    """The particulars of an instance."""
    return Particulars(
        patient_id=instance.patient_id,
        issuer=instance.issuer_of_patient_id,
        patient_name=instance.patient_name,
        patient_birth_date=instance.patient_birth_date,
        patient_sex=instance.patient_sex,
        accession_number=instance.accession_number,
    )


def differing(one: Particulars, other: Particulars) -> tuple[str, ...]:
    """The fields that both state, differently."""
    return tuple(name for name in LABELS if _contradicts(getattr(one, name), getattr(other, name), name))


def another_patient(one: Particulars, other: Particulars) -> bool:
    """True where both state a Patient ID or a birth date, and not the same: these are two people until somebody says otherwise."""
    return bool({"patient_id", "issuer", "patient_birth_date"} & set(differing(one, other)))


def same_patient(one: Particulars, other: Particulars) -> bool:
    """True where both state the same Patient ID and nothing contradicts that: one may then correct the other's name."""
    return bool(one.patient_id.strip()) and _plain(one.patient_id) == _plain(other.patient_id) and not another_patient(one, other)


def alike(one: Particulars, other: Particulars) -> bool:
    """True where nothing contradicts and at least one of number, name and birth date is stated by both."""
    shared = any(
        getattr(one, name).strip() and getattr(other, name).strip() for name in ("patient_id", "patient_name", "patient_birth_date")
    )
    return shared and not differing(one, other)


def in_words(particulars: Particulars) -> str:
    """Name and number, for pages and status; holds patient data."""
    number = f"Patient ID {particulars.patient_id}" if particulars.patient_id else "no Patient ID"
    born = f", born {particulars.patient_birth_date}" if particulars.patient_birth_date else ""
    return f"{particulars.patient_name or 'no name'} ({number}{born})"


def _contradicts(one: str, other: str, name: str) -> bool:
    if name == "patient_name":
        return bool(_name(one) and _name(other)) and not _is_part(_name(one), _name(other))
    return bool(one.strip() and other.strip()) and _plain(one) != _plain(other)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _name(text: str) -> tuple[str, ...]:
    """The components of the first group that holds any, without empty ones: a caret more is no other name (PS3.5 6.2.1)."""
    group = next((one for one in text.split("=") if one.strip("^ ")), "")
    return tuple(filter(None, (_plain(part) for part in group.replace(",", "^").split("^"))))


def _is_part(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """A name with a middle name or a title more is the same name."""
    shorter, longer = sorted((one, other), key=len)
    return set(shorter) <= set(longer)
