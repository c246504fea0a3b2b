"""Settings overrides: proposed, approved, activated, ended, gone back from. Each step is one transaction and an event.

Who decides says which change of the rules they were shown (`shown`); where something else is in force by then, nothing is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.config import settings_override
from prioritizer.config.policy import SitePolicy
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.in_force.calibration import in_force
from prioritizer.db.in_force.settings import COLUMNS, OverriddenPolicy, SettingsOverrideRow, ruled
from prioritizer.db.processing import deliver
from prioritizer.db.processing.daemon_start import place_unread
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.site_tables import rulings, site_rules
from prioritizer.errors import NotAllowed, NotFound, SettingsOverrideUnfit
from prioritizer.monitoring.acceptance import stands_against
from prioritizer.ranking.deadlines import Stage
from prioritizer.states import RULING_TRANSITIONS, SettingsOverrideState, states_before

LARGEST = 2**31 - 1
NO_EFFECT: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a decision did."""

    before: int | None
    """The settings override that held before; None: the configuration alone."""
    after: int | None
    change: int
    moved: int
    """Unread studies that stand elsewhere now."""
    retracted: int
    """Results that were on their way to a destination and are not sent, because the stage is shadow now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a person wants to be ruled, why, and what was simulated of it."""

    wanted: Mapping[str, Any]
    reason: str
    effect: Mapping[str, Any]


def propose(
    engine: sa.Engine, policy: SitePolicy, proposal: Proposal, who: str, now: datetime, shown: int | None = None
) -> SettingsOverrideRow:
    """Enter a candidate. Raises SettingsOverrideUnfit where the configuration would refuse it, NotAllowed where it changes nothing."""
    reason = " ".join(proposal.reason.split())
    if not 0 < len(reason) <= settings_override.MAX_REASON:
        raise NotAllowed(
            f"a settings override needs a reason of at most {settings_override.MAX_REASON} characters: it is read when somebody asks why"
        )
    with connect.writing(engine) as tx:
        before = ruled(tx, policy)
        _as_shown(tx, before, shown)
        changes = settings_override.changed(policy.ranking, proposal.wanted)
        if not changes:
            raise NotAllowed("nothing differs from the configuration; to go back to it, end the settings override that is in force")
        if dict(before.changes) == changes:
            raise NotAllowed(f"this is in force already, by settings override {before.active.id if before.active else ''}")
        text = settings_override.text_of(changes)
        values = {"document": text, "sha256": settings_override.digest_of(text), "reason": reason, "effect": dict(proposal.effect)}
        made = rulings.insert().values(state=SettingsOverrideState.CANDIDATE, proposed_at=now, proposed_by=who, **values)
        row = row_of(tx, int(tx.scalar(made.returning(rulings.c.id)) or 0))
        said = f"settings override {row.id} proposed: {settings_override.in_words(changes)}; {reason}"
        record(tx, Kind.RULING_PROPOSED, said, now, actor=who, ruling=row.id, changes=changes, sha256=row.sha256)
        return row


def listed(engine: sa.Engine, limit: int = 100) -> list[SettingsOverrideRow]:
    """The newest first."""
    with connect.reading(engine) as tx:
        return [SettingsOverrideRow(**row._mapping) for row in tx.execute(sa.select(*COLUMNS).order_by(rulings.c.id.desc()).limit(limit))]


def find(engine: sa.Engine, number: int) -> SettingsOverrideRow:
    """One settings override. Raises NotFound."""
    if not 0 < number <= LARGEST:
        raise NotFound("there is no settings override of this number")
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(*COLUMNS).where(rulings.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(f"there is no settings override {number}; `prioritizer overrides show` lists them")
    return SettingsOverrideRow(**row._mapping)


def approve(engine: sa.Engine, policy: SitePolicy, number: int, who: str, now: datetime, shown: int | None = None) -> None:
    """A second person agrees to a candidate. Raises NotAllowed for the person who proposed it, and for anything but a candidate."""
    with connect.writing(engine) as tx:
        _as_shown(tx, ruled(tx, policy), shown)
        row = row_of(tx, number)
        _is_candidate(row)
        if row.approved_by is not None:
            raise NotAllowed(f"{row.approved_by} approved settings override {number} already")
        if row.proposed_by.casefold() == who.casefold():
            raise NotAllowed(f"{who} proposed settings override {number}; another person approves it")
        _fits(row, policy)
        tx.execute(rulings.update().where(rulings.c.id == number).values(approved_by=who, approved_at=now))
        record(tx, Kind.RULING_APPROVED, f"settings override {number} approved", now, actor=who, ruling=number, sha256=row.sha256)


def reject(engine: sa.Engine, policy: SitePolicy, number: int, who: str, reason: str, now: datetime, shown: int | None = None) -> None:
    """A person decides against a candidate, permanently. Raises NotAllowed for anything but a candidate."""
    with connect.writing(engine) as tx:
        _as_shown(tx, ruled(tx, policy), shown)
        row = row_of(tx, number)
        _is_candidate(row)
        _enter(tx, row, SettingsOverrideState.REJECTED, ended_at=now, ended_by=who)
        said = f"settings override {number} rejected" + (f": {reason.strip()[: settings_override.MAX_REASON]}" if reason.strip() else "")
        record(tx, Kind.RULING_REJECTED, said, now, actor=who, ruling=number)


def activate(engine: sa.Engine, policy: SitePolicy, number: int, decision: Decision, now: datetime, shown: int | None = None) -> Done:
    """Put a candidate in force in the place of what holds. Raises NotAllowed with what stands in the way, SettingsOverrideUnfit."""
    with connect.writing(engine) as tx:
        before = ruled(tx, policy, alone=True)
        row = row_of(tx, number)
        _is_candidate(row)
        _as_shown(tx, before, shown)
        _fits(row, policy)
        if decision.second_person and (row.approved_by is None or row.approved_by.casefold() == row.proposed_by.casefold()):
            raise NotAllowed(
                f"a second person must approve first: `prioritizer overrides approve {number}`, by anyone but {row.proposed_by} "
                "(calibration.second_person)"
            )
        _accepted(before, row, policy, decision)
        return _put_in_force(tx, policy, before, row, decision.who, now, back=False, against=decision.against_advice.strip())


def _accepted(before: OverriddenPolicy, row: SettingsOverrideRow, policy: SitePolicy, decision: Decision) -> None:
    """Raises NotAllowed where readers would begin to see AI's opinion, the site's own figures speak against it and nobody says why."""
    leaves = before.policy.ranking.stage is Stage.SHADOW and settings_override.over(policy.ranking, row.changes).stage is not Stage.SHADOW
    faults = stands_against(row.effect) if leaves else []
    if faults and not decision.against_advice.strip():
        said = f"its acceptance report says: not yet: {'; '.join(faults)}"
        raise NotAllowed(f"{said}. To leave shadow all the same say why (--against-advice REASON); it is kept")


def end(engine: sa.Engine, policy: SitePolicy, who: str, now: datetime, shown: int | None = None) -> Done:
    """The configuration alone holds again. Asks for nobody's approval. Raises NotAllowed where it holds already."""
    with connect.writing(engine) as tx:
        before = ruled(tx, policy, alone=True)
        _as_shown(tx, before, shown)
        active_of(before)
        return _put_in_force(tx, policy, before, None, who, now, back=True)


def back(engine: sa.Engine, policy: SitePolicy, who: str, now: datetime, shown: int | None = None) -> Done:
    """What held before the active settings override holds again: the one before it, or the configuration. Asks for nobody's approval."""
    with connect.writing(engine) as tx:
        before = ruled(tx, policy, alone=True)
        _as_shown(tx, before, shown)
        active = active_of(before)
        chosen = row_of(tx, active.replaced) if active.replaced is not None else None
        if chosen is not None:
            _fits(chosen, policy)
        return _put_in_force(tx, policy, before, chosen, who, now, back=True)


def before_the_active(engine: sa.Engine, policy: SitePolicy) -> SettingsOverrideRow | None:
    """What `back` would put in force; None: the configuration alone. Raises NotAllowed where it holds already, SettingsOverrideUnfit."""
    with connect.reading(engine) as tx:
        active = active_of(ruled(tx, policy, held=False))
    chosen = find(engine, active.replaced) if active.replaced is not None else None
    if chosen is not None:
        _fits(chosen, policy)
    return chosen


def row_of(tx: sa.Connection, number: int) -> SettingsOverrideRow:
    """One override, its row held until the commit: of two who decide at once the second sees what the first did. Raises NotFound."""
    known = 0 < number <= LARGEST
    row = tx.execute(sa.select(*COLUMNS).where(rulings.c.id == number).with_for_update()).one_or_none() if known else None
    if row is None:
        raise NotFound("there is no settings override of this number; `prioritizer overrides show` lists them")
    return SettingsOverrideRow(**row._mapping)


def _as_shown(tx: sa.Connection, now_in_force: OverriddenPolicy, shown: int | None) -> None:
    """Raises NotAllowed where the rules were changed since the person was shown them, and says by whom."""
    if shown is None or shown == now_in_force.change:
        return
    active = now_in_force.active
    if active is not None:
        said = f"settings override {active.id}, put in force by {active.activated_by}"
    else:
        last = tx.execute(
            sa.select(rulings.c.id, rulings.c.ended_by)
            .where(rulings.c.state == SettingsOverrideState.ENDED)
            .order_by(rulings.c.ended_at.desc(), rulings.c.id.desc())
            .limit(1)
        ).one_or_none()
        said = f"the configuration alone, since {last.ended_by} ended settings override {last.id}" if last else "the configuration alone"
    raise NotAllowed(f"something else is in force than what you were shown: {said}. Look at it, then decide")


def _is_candidate(row: SettingsOverrideRow) -> None:
    """Raises NotAllowed for anything but a candidate, with who decided."""
    if row.state == SettingsOverrideState.CANDIDATE:
        return
    again = "Propose it again, so that its effect is simulated again"
    how = {
        SettingsOverrideState.ACTIVE: f"in force already: {row.activated_by} activated it",
        SettingsOverrideState.REJECTED: f"no candidate any more: {row.ended_by} rejected it",
        SettingsOverrideState.ENDED: f"no candidate any more: {row.ended_by} ended it. {again}",
    }
    raise NotAllowed(f"settings override {row.id} is {how[SettingsOverrideState(row.state)]}")


def _fits(row: SettingsOverrideRow, policy: SitePolicy) -> None:
    """Raises SettingsOverrideUnfit where the settings override is not what was stored, or unsafe over the configuration of today."""
    try:
        settings_override.over(policy.ranking, row.changes)
    except SettingsOverrideUnfit as error:
        raise SettingsOverrideUnfit(f"settings override {row.id} cannot be put in force: {error}") from error


def active_of(before: OverriddenPolicy) -> SettingsOverrideRow:
    """The active settings override. Raises NotAllowed where the configuration alone holds."""
    if before.active is None:
        raise NotAllowed("the configuration alone holds: there is nothing to go back from")
    return before.active


def _enter(tx: sa.Connection, row: SettingsOverrideRow, state: SettingsOverrideState, **values: Any) -> None:
    """Move a settings override into `state`, when the table of transitions has that step."""
    allowed = rulings.c.state.in_(states_before(RULING_TRANSITIONS, state))
    if tx.execute(rulings.update().where(rulings.c.id == row.id, allowed).values(state=state, **values)).rowcount != 1:
        raise NotAllowed(f"settings override {row.id} is {row.state}: it cannot become {state}")


def _put_in_force(
    tx: sa.Connection,
    policy: SitePolicy,
    before: OverriddenPolicy,
    chosen: SettingsOverrideRow | None,
    who: str,
    now: datetime,
    *,
    back: bool,
    against: str = "",
) -> Done:
    """End what is active, put `chosen` (None: the configuration) in its place, and place every unread study again by it."""
    active = before.active
    if active is not None:
        _enter(tx, active, SettingsOverrideState.ENDED, ended_at=now, ended_by=who)
    if chosen is not None:
        # Going back leaves what it had replaced as it was, so that going back again goes one step further.
        replaced = {} if back else {"replaced": active.id if active is not None else None}
        _enter(tx, chosen, SettingsOverrideState.ACTIVE, activated_at=now, activated_by=who, ended_at=None, ended_by=None, **replaced)
    tx.execute(site_rules.update().values(change=before.change + 1))
    rules = in_force(tx, policy).policy
    moved = place_unread(tx, rules, now)
    shadowed = rules.ranking.stage is Stage.SHADOW and before.policy.ranking.stage is not Stage.SHADOW
    retracted = deliver.retract_all_unsent(tx, "the stage became shadow before it was sent", now) if shadowed else 0
    left, taken = active.id if active else None, chosen.id if chosen else None
    done = Done(before=left, after=taken, change=before.change + 1, moved=moved, retracted=retracted)
    _say(tx, done, chosen, who, now, back=back, against=against)
    return done


def _say(tx: sa.Connection, done: Done, chosen: SettingsOverrideRow | None, who: str, now: datetime, *, back: bool, against: str) -> None:
    left = f"settings override {done.before}" if done.before is not None else "the configuration"
    facts: dict[str, Any] = {"from": done.before, "to": done.after, "change": done.change, "moved": done.moved, "retracted": done.retracted}
    if chosen is None:
        said, kind = f"{left} ended, the configuration alone holds", Kind.RULING_ENDED
    else:
        verb = "went back to" if back else "activated"
        said = f"{verb} settings override {chosen.id} from {left}: {settings_override.in_words(chosen.changes)}"
        kind, facts = Kind.RULING_ACTIVATED, {**facts, "sha256": chosen.sha256, "changes": chosen.changes}
    if against:
        said, facts = f"{said}, against its acceptance report: {against}", {**facts, "against_advice": against}
    more = f", {done.retracted} unsent results retracted" if done.retracted else ""
    record(tx, kind, f"{said} (change {done.change}): {done.moved} studies moved{more}", now, actor=who, **facts)
