"""The state of the list as it stands in the address: read from it, written back to it, with one thing changed.

Everything that decides what a page shows is here, so that back, reload, a second monitor and a pasted link show the same list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prioritizer.db.list_order.cursor import PageCursor
from prioritizer.db.list_order.order import WORKING, Order, View, Wanted
from prioritizer.study import AIState

MAX_HOURS = 24 * 366
MAX_TEXT = 100
"""Of a search, characters: it stands in the address of every study of the list."""


class Address(BaseModel):
    """The parameters of the list. Unknown ones are a mistake of whoever wrote the link, and are said."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    view: View = View.OPEN
    order: Order | None = None
    back: bool = False
    """The column the other way round."""
    q: str = Field(default="", max_length=MAX_TEXT)
    sender: str = Field(default="", max_length=64, alias="from")
    ai: AIState | None = None
    raised: bool = False
    overdue: bool = False
    mine: bool = False
    hours: float = Field(default=0, ge=0, le=MAX_HOURS)
    blind: bool = False
    """AI column and marks are not shown."""
    after: str = Field(default="", max_length=400)
    """The page begins behind this place."""
    at: str = Field(default="", max_length=80)
    """The selected row."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One list as somebody asked for it."""

    address: Address

    @property
    def order(self) -> Order:
        """What was asked for, or what suits the view."""
        return self.address.order or (Order.READ if self.address.view is View.READ else Order.DEADLINE)

    @property
    def back(self) -> bool:
        """The newest read stand first where nothing else was asked."""
        return self.address.back or (self.address.order is None and self.address.view is View.READ)

    @property
    def ranked(self) -> bool:
        """True where the page tells what AI thought of a study: by its place, its mark, the AI column or a choice of studies by them."""
        a = self.address
        return self.order is not Order.ARRIVAL or not a.blind or a.raised or a.overdue

    @property
    def place(self) -> PageCursor | None:
        """Where the page before ended; None on the first. Raises NotAllowed."""
        return PageCursor.parse(self.address.after, self.order) if self.address.after else None

    def wanted(self, reader: str) -> Wanted:
        """The same for the ledger."""
        a = self.address
        return Wanted(
            view=a.view, order=self.order, backwards=self.back, text=a.q, sender=a.sender, ai=a.ai, raised=a.raised,
            overdue=a.overdue, reader=reader if a.mine else "", hours=a.hours,
        )  # fmt: skip

    def query(self, **changes: Any) -> str:
        """The address's query with some things changed; what is as usual is left out. A change of the list starts at its first page."""
        if changes.keys() - {"at", "after"}:
            changes = {"after": "", "at": ""} | changes
        kept = {name: getattr(self.address, name) for name in type(self.address).model_fields}
        return text_of(type(self.address).model_validate(kept | changes))

    def sorted_by(self, order: Order) -> str:
        """The query of a column's heading: this order, or the other way round where it is this order already."""
        turned = self.order is order and not self.back and order not in WORKING
        return self.query(order=order, back=turned)


def text_of(address: Address) -> str:
    """An address as text: empty for the plain list, else beginning with a question mark."""
    said = address.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    flat = {key: "1" if value is True else f"{value:g}" if isinstance(value, float) else value for key, value in said.items()}
    return f"?{urlencode(flat)}" if flat else ""


def asked_for(address: Annotated[Address, Query()]) -> ListQuery:
    """The list that a request asks for."""
    return ListQuery(address)


def parsed(query: str) -> ListQuery | None:
    """The list behind a stored query; None where it is none."""
    try:
        return ListQuery(Address.model_validate({key: values[-1] for key, values in parse_qs(query.removeprefix("?")).items()}))
    except ValidationError:
        return None


def without_place(asked: ListQuery) -> ListQuery:
    """The same list from its beginning, nothing selected."""
    return replace(asked, address=asked.address.model_copy(update={"after": "", "at": ""}))


Listed = Annotated[ListQuery, Depends(asked_for)]
