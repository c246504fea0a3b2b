"""An instance as a row of the ledger, and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import sqlalchemy as sa

from prioritizer.db.schema.tables import instances
from prioritizer.scope.header_rules import RADIOGRAPH_CLASSES, SECONDARY_CAPTURE_CLASS, may_be_a_radiograph
from prioritizer.states import InstanceState
from prioritizer.study import Instance

NOT_IN_ATTRIBUTES = (
    "sop_instance_uid", "study_uid", "series_uid", "sop_class_uid", "transfer_syntax_uid",
    "calling_ae", "called_ae", "address", "received_at", "sha256", "size",
)  # fmt: skip
OWN_OBJECT = "own-object"
"""The reason of an instance that prioritizer made itself: it says nothing about the study."""
SET_ASIDE = "set-aside"
"""The reason of an object that is listed and never scored: it shares its SOP Instance UID with another, or claims to be a result."""
LOOKED_AT = 50
HEADER = "header"
"""The reason of an instance whose header could not be read to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One instance as read from the spool; `unreadable` says why it cannot be scored, whatever else of it could be read."""

    instance: Instance
    unreadable: str = ""
    set_aside: str = ""
    """Why it is listed and never scored, though it can be read."""


def row_of(arrival: Arrival) -> dict[str, Any]:
    """The columns of a new row."""
    values = asdict(arrival.instance)
    attributes = {key: value for key, value in values.items() if key not in NOT_IN_ATTRIBUTES}
    row = {key: values[key] for key in NOT_IN_ATTRIBUTES} | {"attributes": attributes}
    if arrival.unreadable:
        row |= {"state": InstanceState.FAILED, "reason": HEADER, "reason_text": arrival.unreadable}
    elif arrival.set_aside:
        row |= {"state": InstanceState.INELIGIBLE, "reason": SET_ASIDE, "reason_text": arrival.set_aside}
    elif arrival.instance.made_by_us:
        own = "made by prioritizer itself: recorded, never scored"
        row |= {"state": InstanceState.INELIGIBLE, "reason": OWN_OBJECT, "reason_text": own}
    return row


def instance_of(row: sa.Row[Any]) -> Instance:
    """The Instance of a row of `instances`."""
    m = row._mapping
    values: dict[str, Any] = {key: m[key] for key in NOT_IN_ATTRIBUTES} | dict(m["attributes"])
    known = {field.name for field in fields(Instance)}
    fitting: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key in known}
    return Instance(**fitting)


def holds_a_radiograph(tx: sa.Connection, key: str) -> bool:
    """True once an object that may be a radiograph has joined the row."""
    classes = instances.c.sop_class_uid.in_((*RADIOGRAPH_CLASSES, SECONDARY_CAPTURE_CLASS))
    # A few are enough: of a thousand objects of one study the first images are among them.
    some = sa.select(instances).where(instances.c.study_uid == key, classes).limit(LOOKED_AT)
    return any(may_be_a_radiograph(instance_of(row)) for row in tx.execute(some))
