"""Instance, study, delivery and calibration: what they hold and the four state machines they walk.

Each machine is one table in the database, one TRANSITIONS table here and one CHECK constraint. A claim is columns, not a state:
a worker that dies leaves a lease that runs out, never a row that nobody may touch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType, TypeVar

StudyUID = NewType("StudyUID", str)
SOPInstanceUID = NewType("SOPInstanceUID", str)
Logit = NewType("Logit", float)
Probability = NewType("Probability", float)
State = TypeVar("State", bound=StrEnum)
STAT_PRIORITIES = frozenset({"STAT", "HIGH"})
"""(0040,1003) Requested Procedure Priority and (0032,000C) Study Priority ID of an order that goes first."""


class InstanceState(StrEnum):
    """The scoring of one instance.

    RECEIVED    The receive station enters it, with the ledger row. The score station leaves it. A crash leaves the row
                RECEIVED under a lease; when the lease runs out the instance is scored again, to the same numbers.
    SCORED      The score station enters it in the same commit as the score and the new place. Another bundle in service leaves
                it, while the study is unread: to RECEIVED, or without pixels to INELIGIBLE. So does a change of what is in force that
                leaves images of another population unscored: to INELIGIBLE.
    INELIGIBLE  Outside the model's scope, or not a radiograph; `reason` says which rule. Or it failed and an operator gave it up. An
                operator's requeue leaves it, and so, unless it was given up, does another bundle in service. Where another population
                was the reason, what is in force may lift it.
    FAILED      The pixels could not be read, or the sandbox died twice on them. An operator's requeue leaves it; their word that it
                is given up leaves it to INELIGIBLE, with that word as the reason.
    """

    RECEIVED = "RECEIVED"
    SCORED = "SCORED"
    INELIGIBLE = "INELIGIBLE"
    FAILED = "FAILED"


INSTANCE_TRANSITIONS: Mapping[InstanceState, frozenset[InstanceState]] = {
    InstanceState.RECEIVED: frozenset({InstanceState.SCORED, InstanceState.INELIGIBLE, InstanceState.FAILED}),
    InstanceState.SCORED: frozenset({InstanceState.RECEIVED, InstanceState.INELIGIBLE}),
    InstanceState.INELIGIBLE: frozenset({InstanceState.RECEIVED}),
    InstanceState.FAILED: frozenset({InstanceState.RECEIVED, InstanceState.INELIGIBLE}),
}


class ReadingState(StrEnum):
    """The reading of one study.

    OPEN     The first instance enters it; so does a released or expired claim, and a late instance after READ. A reader's
             claim leaves it. A crash leaves it OPEN.
    CLAIMED  One reader has it, until `reader_until`. Reading or releasing leaves it. A crash leaves the lease to run out.
    READ     The reader said so. A late instance leaves it, or a person who opens the study again; it is then open with that reason.
    """

    OPEN = "OPEN"
    CLAIMED = "CLAIMED"
    READ = "READ"


READING_TRANSITIONS: Mapping[ReadingState, frozenset[ReadingState]] = {
    ReadingState.OPEN: frozenset({ReadingState.CLAIMED, ReadingState.READ}),
    ReadingState.CLAIMED: frozenset({ReadingState.OPEN, ReadingState.READ}),
    ReadingState.READ: frozenset({ReadingState.OPEN}),
}


class Finding(StrEnum):
    """What a reader says of a study: the finding, never agreement with AI, so that the same word holds for a blinded read."""

    PRESENT = "present"
    ABSENT = "absent"
    UNSURE = "unsure"


class DeliveryState(StrEnum):
    """One result object on its way to one destination.

    PENDING    The publish station enters it, in the commit that stores the bytes. A crash while sending leaves it PENDING
               under a lease; the same bytes are sent again and the PACS recognises the same UID.
    SENT       The destination answered Success. Storage commitment leaves it, where the destination offers that; and so does the very
               same object being the study's result again after another was sent.
    COMMITTED  The destination took responsibility. Nothing leaves it.
    REJECTED   The destination refused it again and again, for more than a day, or what is stored must not be sent. An operator's
               requeue leaves it, or their word that it is given up.
    RETRACTED  A newer revision replaced it before it was sent, the stage became shadow, or an operator gave it up. Where the very same
               object is the study's result again, that leaves it: no other object would ever be sent in its place.
    """

    PENDING = "PENDING"
    SENT = "SENT"
    COMMITTED = "COMMITTED"
    REJECTED = "REJECTED"
    RETRACTED = "RETRACTED"


DELIVERY_TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.SENT, DeliveryState.REJECTED, DeliveryState.RETRACTED}),
    DeliveryState.SENT: frozenset({DeliveryState.COMMITTED, DeliveryState.PENDING}),
    DeliveryState.COMMITTED: frozenset(),
    DeliveryState.REJECTED: frozenset({DeliveryState.PENDING, DeliveryState.RETRACTED}),
    DeliveryState.RETRACTED: frozenset({DeliveryState.PENDING}),
}


class CalibrationState(StrEnum):
    """One calibration of one bundle at this site.

    CANDIDATE  `recalibrate` enters it, with its report. Activating or rejecting leaves it. A crash leaves nothing: it is one commit.
    ACTIVE     A person activated it: every score of its bundle is made with it. At most one a bundle; none means the bundle's own.
               Activating another, or rolling back, leaves it, in the commit that places the unread studies anew.
    RETIRED    It was active. Rolling back, or activating it again, leaves it.
    REJECTED   A person decided against it. Nothing leaves it.
    """

    CANDIDATE = "CANDIDATE"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"
    REJECTED = "REJECTED"


CALIBRATION_TRANSITIONS: Mapping[CalibrationState, frozenset[CalibrationState]] = {
    CalibrationState.CANDIDATE: frozenset({CalibrationState.ACTIVE, CalibrationState.REJECTED}),
    CalibrationState.ACTIVE: frozenset({CalibrationState.RETIRED}),
    CalibrationState.RETIRED: frozenset({CalibrationState.ACTIVE}),
    CalibrationState.REJECTED: frozenset(),
}


class RulingState(StrEnum):
    """One ruling of a person on the site's rules, above the configuration.

    CANDIDATE  A person proposes it, with its simulated effect. Activating or rejecting leaves it. A crash leaves nothing: it is one commit.
    ACTIVE     A person activated it: every study is placed by it. At most one; none means that the configuration alone holds.
               Activating another, ending it, or going back leaves it, in the commit that places the unread studies anew.
    ENDED      It was active. Going back from the one that replaced it leaves it.
    REJECTED   A person decided against it. Nothing leaves it.
    """

    CANDIDATE = "CANDIDATE"
    ACTIVE = "ACTIVE"
    ENDED = "ENDED"
    REJECTED = "REJECTED"


RULING_TRANSITIONS: Mapping[RulingState, frozenset[RulingState]] = {
    RulingState.CANDIDATE: frozenset({RulingState.ACTIVE, RulingState.REJECTED}),
    RulingState.ACTIVE: frozenset({RulingState.ENDED}),
    RulingState.ENDED: frozenset({RulingState.ACTIVE}),
    RulingState.REJECTED: frozenset(),
}


class CopyState(StrEnum):
    """Other bytes under a SOP Instance UID that is already held.

    WAITING   The receive worker enters it where patient, study or pixels differ: a person must say which is right. The study's results are
              held back meanwhile. A crash leaves the file in conflicts/, and it is looked at again.
    SAME      The same image again, in another transfer syntax or with another history: nothing to decide.
    TAKING    A person confirmed the copy, and it is being put in the place of what is held. No result goes out meanwhile; after a crash the
              receive worker ends it. Where the copy's file is gone it waits again.
    KEPT      A person confirmed what is held; the copy stays in conflicts/.
    TAKEN     The copy took the place of what was held, by a person's word, or because what was held was damaged or gone.
    """

    WAITING = "WAITING"
    SAME = "SAME"
    TAKING = "TAKING"
    KEPT = "KEPT"
    TAKEN = "TAKEN"


COPY_TRANSITIONS: Mapping[CopyState, frozenset[CopyState]] = {
    CopyState.WAITING: frozenset({CopyState.KEPT, CopyState.TAKING, CopyState.TAKEN, CopyState.SAME}),
    CopyState.TAKING: frozenset({CopyState.TAKEN, CopyState.WAITING, CopyState.KEPT}),
    CopyState.SAME: frozenset(),
    CopyState.KEPT: frozenset(),
    CopyState.TAKEN: frozenset(),
}


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


def states_before(transitions: Mapping[State, frozenset[State]], state: State) -> list[State]:
    """The states from which a machine may enter `state`; the ledger's updates ask for them, so the table is the rule."""
    return [start for start, ends in transitions.items() if state in ends]


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
    """One probability with everything that is needed to give it again."""

    bundle_digest: str
    calibration_id: str
    preprocessing_id: str
    engine: str
    precision: str
    logit: Logit
    probability: Probability
    saliency: bytes
    """float32 little-endian, (7, 7), contributions to the logit before any ReLU."""
    embedding: bytes
    """float16 little-endian, (D,)."""
    warnings: tuple[str, ...] = ()
    out_of_distribution: float | None = None
    """How far the image lies from the training data, in units of the bundle's limit; None where no guard measured it."""
    activation: int = 0
    """How often the bundle's calibration had been changed when this was made: an earlier calibration that is active again gives
    another score, and so another result object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What raising from a threshold on gives: the threshold as a probability, shares of 1."""

    threshold: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A film for a page: a PNG whose red and green are the high and low byte of every tone, and the header's window in shares of 65535."""

    png: bytes
    rows: int
    columns: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What AI makes of a file that is no study. Without a probability, `reason` says why."""

    film: Shown
    display: bytes
    """The film in its window, 8 bits, PNG."""
    t_high: float
    """The probability from which studies are raised now."""
    points: tuple[Point, ...]
    """What other thresholds give, on the films the bundle was reported on."""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    probability: float | None = None
    finding: str = ""
    """What the probability is of."""
    saliency: bytes = b""
    """float32 little-endian, square."""
    calibration: str = ""
    bundle: str = ""
