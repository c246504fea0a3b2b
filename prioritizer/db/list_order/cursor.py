"""Where a page of a list ended: what its last row was ordered by at that moment.

The next page begins behind that place and not behind that study, so that a study that moves meanwhile neither hides nor repeats others. A
place stands in addresses, and so holds no patient data: a name or a description, which do not change, are read again from the study.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.db.list_order.order import KEYS, Order, Wanted
from prioritizer.db.schema.columns import EPOCH
from prioritizer.db.schema.tables import studies
from prioritizer.errors import NotAllowed, NotFound

OF_THE_PATIENT = ("patient_name", "study_description")
MOMENTS = ("due_at", "first_received_at", "read_at")
UNREADABLE = "this is no place in a list: load the list again from its beginning"
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCursor:
    """The last row of a page. `values`: of its order's columns, without those of the patient."""

    order: Order
    stat: bool
    values: dict[str, Any]

    @property
    def study_uid(self) -> str:
        """The row's study."""
        return str(self.values["study_uid"])

    def text(self) -> str:
        """The place as it stands in an address."""
        plain = [_plain(self.values[name]) for name in _kept(self.order)]
        said = json.dumps([str(self.order), self.stat, *plain], separators=(",", ":"))
        return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str, order: Order) -> PageCursor:
        """A place from an address. Raises NotAllowed where it is none, or one of a list in another order."""
        try:
            found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            said, stat, *plain = found
            names = _kept(order)
            if said != str(order) or not isinstance(stat, bool) or len(plain) != len(names):
                raise NotAllowed(UNREADABLE)
            values = {name: _value(name, value) for name, value in zip(names, plain, strict=True)}
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise NotAllowed(UNREADABLE) from error
        return cls(order=order, stat=stat, values=values)


def place_of(wanted: Wanted, row: Any) -> PageCursor:
    """Where this row of a list stands now."""
    return PageCursor(order=wanted.order, stat=row.stat, values={name: getattr(row, name) for name in _kept(wanted.order)})


def whole(tx: sa.Connection, place: PageCursor) -> dict[str, Any]:
    """Everything that the place is ordered by. Raises NotFound where its study is gone and was ordered by its patient."""
    found: dict[str, Any] = {"stat": place.stat, **place.values}
    for name in KEYS[place.order]:
        if name in OF_THE_PATIENT:
            row = tx.execute(sa.select(studies.c[name]).where(studies.c.study_uid == place.study_uid)).one_or_none()
            if row is None:
                raise NotFound("the study at which the page before ended is not in the ledger: load the list again")
            found[name] = row[0]
    return found


def _kept(order: Order) -> tuple[str, ...]:
    return tuple(name for name in KEYS[order] if name not in OF_THE_PATIENT)


def _plain(value: Any) -> Any:
    return (value - EPOCH) // MICROSECOND if isinstance(value, datetime) else value


def _value(name: str, value: Any) -> Any:
    if value is None and name in ("reader", "read_at"):
        return None
    if name in MOMENTS:
        if not isinstance(value, int) or isinstance(value, bool):
            raise NotAllowed(UNREADABLE)
        return (EPOCH + value * MICROSECOND).astimezone(UTC)
    if not isinstance(value, str) or "\0" in value:
        raise NotAllowed(UNREADABLE)
    value.encode()  # half a surrogate pair is no text for a database
    return value
