"""Where the open studies stand by the rules in force, and where they would stand by others. Read only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from prioritizer import ruling
from prioritizer.db import connect
from prioritizer.db.in_force import in_force
from prioritizer.db.ordering import View, in_view
from prioritizer.db.placing import high_suspended, standing_of
from prioritizer.db.tables import studies
from prioritizer.ranking import Policy, Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPlaces:
    """The open studies, and two sets of rules with what each says of raising too much."""

    standings: list[Standing]
    before: Policy
    after: Policy
    suspended_before: bool
    suspended_after: bool


def open_places(engine: sa.Engine, policy: Policy, changes: Mapping[str, str | float]) -> OpenPlaces:
    """The list as it is, and the rules that a ruling would make in the place of what is in force. Raises RulingUnfit."""
    with connect.reading(engine) as tx:
        before = in_force(tx, policy, held=False).policy
        proposed = ruling.over(policy, changes) if changes else policy
        after = proposed.with_thresholds(before.t_high, before.t_low)
        rows = tx.execute(sa.select(studies).where(in_view(View.OPEN))).all()
        return OpenPlaces(
            standings=[standing_of(row) for row in rows],
            before=before,
            after=after,
            suspended_before=high_suspended(tx, before),
            suspended_after=high_suspended(tx, after),
        )
