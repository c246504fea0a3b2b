"""The state machines of instance, study, delivery, calibration, settings override and differing copy, each with its transitions.

Each machine is one table in the database, one TRANSITIONS table here and one CHECK constraint. A claim is columns, not a state:
a worker that dies leaves a lease that runs out, never a row that nobody may touch.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

State = TypeVar("State", bound=StrEnum)


class InstanceState(StrEnum):
    """The scoring of one instance.

    RECEIVED    The receive worker enters it, with the ledger row. The score worker leaves it. A crash leaves the row
                RECEIVED under a lease; when the lease runs out the instance is scored again, to the same numbers.
    SCORED      The score worker enters it in the same commit as the score and the new place. Another bundle in service leaves
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


class DeliveryState(StrEnum):
    """One result object on its way to one destination.

    PENDING    The publish worker enters it, in the commit that stores the bytes. A crash while sending leaves it PENDING
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
               Activating another, or rolling back, leaves it, in the commit that places the unread studies again.
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


class SettingsOverrideState(StrEnum):
    """One settings override of a person on the site's rules, above the configuration.

    CANDIDATE  A person proposes it, with its simulated effect. Activating or rejecting leaves it. A crash leaves nothing: it is one commit.
    ACTIVE     A person activated it: every study is placed by it. At most one; none means that the configuration alone holds.
               Activating another, ending it, or going back leaves it, in the commit that places the unread studies again.
    ENDED      It was active. Going back from the one that replaced it leaves it.
    REJECTED   A person decided against it. Nothing leaves it.
    """

    CANDIDATE = "CANDIDATE"
    ACTIVE = "ACTIVE"
    ENDED = "ENDED"
    REJECTED = "REJECTED"


RULING_TRANSITIONS: Mapping[SettingsOverrideState, frozenset[SettingsOverrideState]] = {
    SettingsOverrideState.CANDIDATE: frozenset({SettingsOverrideState.ACTIVE, SettingsOverrideState.REJECTED}),
    SettingsOverrideState.ACTIVE: frozenset({SettingsOverrideState.ENDED}),
    SettingsOverrideState.ENDED: frozenset({SettingsOverrideState.ACTIVE}),
    SettingsOverrideState.REJECTED: frozenset(),
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


def states_before(transitions: Mapping[State, frozenset[State]], state: State) -> list[State]:
    """The states from which a machine may enter `state`; the ledger's updates ask for them, so the table is the rule."""
    return [start for start, ends in transitions.items() if state in ends]
