"""Instance and study, and the words for what is known of them. Their state machines are in `states`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

StudyUID = NewType("StudyUID", str)
SOPInstanceUID = NewType("SOPInstanceUID", str)
Logit = NewType("Logit", float)
Probability = NewType("Probability", float)
STAT_PRIORITIES = frozenset({"STAT", "HIGH"})
"""(0040,1003) Requested Procedure Priority and (0032,000C) Study Priority ID of an order that goes first."""


class ReaderFinding(StrEnum):
    """What a reader says of a study: the finding, never agreement with AI, so that the same word holds for a blinded read."""

    PRESENT = "present"
    ABSENT = "absent"
    UNSURE = "unsure"


class Hold(StrEnum):
    """Why no result of a study goes out.

    REBUILT   It was entered again from the spool into a ledger that had lost it: whether its result is sent again is asked once.
    IDENTITY  Whose study it is must be confirmed first.
    """

    NONE = ""
    REBUILT = "rebuilt"
    IDENTITY = "identity"


HELD_WORDS: Mapping[Hold, str] = {
    Hold.REBUILT: "held back: the study was entered again from the spool; `prioritizer rebuild --publish yes` or `no` decides",
    Hold.IDENTITY: "held back until it is confirmed whose study it is",
}
"""Why no result of a study goes out, for people."""


class FileFault(StrEnum):
    """What is wrong with the file of an instance in the spool."""

    NONE = ""
    MISSING = "missing"
    DAMAGED = "damaged"


NO_STUDY = "no-study-uid."
"""Prefix of the key of an instance that names no study; its SOP Instance UID follows, so that it is listed alone."""
ANOTHER_PATIENT = "~"
"""Between a Study Instance UID and a number: the row of another patient under the same UID. No UID holds this character."""


def row_key(study_uid: str, number: int) -> StudyUID:
    """The key of the `number`-th patient's row, from 1, under one Study Instance UID: the UID itself for the first."""
    return StudyUID(study_uid if number == 1 else f"{study_uid}{ANOTHER_PATIENT}{number}")


def study_instance_uid(key: str) -> str:
    """(0020,000D) Study Instance UID of the row with this key."""
    return key.partition(ANOTHER_PATIENT)[0]


def names_a_study(key: str) -> bool:
    """True where the instances of the row with this key state a Study Instance UID."""
    return not key.startswith(NO_STUDY)


class AIState(StrEnum):
    """What the AI column of a study says; derived from its instances, worst news never hidden behind good news.

    WAITING     at least one instance is still to be scored and none is scored yet
    SCORED      at least one eligible frontal image has a probability
    NOT_SCORED  every instance is out of scope, with a reason
    FAILED      an instance failed and none is scored
    """

    WAITING = "WAITING"
    SCORED = "SCORED"
    NOT_SCORED = "NOT_SCORED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What prioritizer reads of one SOP instance. Texts are as sent, decoded; absent elements are empty."""

    sop_instance_uid: SOPInstanceUID
    sop_class_uid: str
    study_uid: StudyUID
    series_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    called_ae: str
    address: str
    received_at: datetime
    sha256: str
    size: int
    """Bytes of the whole file."""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    """(0010,0021) Issuer of Patient ID, or the universal entity of its qualifiers: who gave the number."""
    patient_name: str = ""
    """All groups as sent: alphabetic, ideographic, phonetic (PS3.5 6.2.1.2), parted by =."""
    patient_birth_date: str = ""
    patient_sex: str = ""
    age_years: float | None = None
    age_stated: float | None = None
    """(0010,1010) Patient's Age, in years."""
    age_by_dates: float | None = None
    """Birth date to the day the image was taken, in years."""
    accession_number: str = ""
    study_description: str = ""
    series_description: str = ""
    protocol_name: str = ""
    processing_description: str = ""
    """(0018,1400) Acquisition Device Processing Description: where CR readers write the exposure menu."""
    derivation_description: str = ""
    """(0008,2111) Derivation Description."""
    modality: str = ""
    body_part: str = ""
    anatomic_region: str = ""
    """(0008,2218) Anatomic Region Sequence, which DX states instead of the body part or beside it."""
    view_position: str = ""
    view_codes: tuple[str, ...] = ()
    patient_orientation: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    photometric: str = ""
    presentation_intent: str = ""
    species: str = ""
    manufacturer: str = ""
    station_name: str = ""
    priority: str = ""
    number_of_frames: int = 1
    has_pixels: bool = True
    """False only where the header was read to its end and holds no Pixel Data."""
    image_sha256: str = ""
    """Hex SHA-256 of the Pixel Data as encoded and of every element that the image is drawn by; empty where there is none, or deflated."""
    made_by_us: bool = False
    rendering_warnings: tuple[str, ...] = ()
    """What of the header was passed over or put right when the image is drawn: sentences for people, without patient data."""

    @property
    def stat(self) -> bool:
        """The order asks for priority (PS3.3 C.4.11 Requested Procedure Priority)."""
        return self.priority.strip().upper() in STAT_PRIORITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What the network answered about an image, and the probability made of it, with everything that is needed to give it again."""

    bundle_digest: str
    preprocessing_id: str
    engine: str
    precision: str
    logit: Logit
    saliency: bytes
    """float32 little-endian, (7, 7), contributions to the logit before any ReLU."""
    embedding: bytes
    """float16 little-endian, (D,)."""
    warnings: tuple[str, ...] = ()
    out_of_distribution: float | None = None
    """How far the image lies from the training data, in units of the bundle's limit; None where no guard measured it."""
    calibration_id: str = ""
    probability: Probability | None = None
    """None until the ledger makes it, of the logit and by the calibration that is in force when the score is entered."""
    activation: int = 0
    """How often the bundle's calibration had been changed when this was made: an earlier calibration that is active again gives
    another score, and so another result object."""
