"""The calibrations of the site: candidates come in, a person approves, activates, rolls back. Every change is an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force.calibration import PolicyInForce, active_row, digest_of, document_text, in_force, trusted
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.site_tables import activations, bundles, calibrations
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.states import CALIBRATION_TRANSITIONS, CalibrationState, states_before

ADVISED_AGAINST = "do not activate"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRow:
    """A calibration as the ledger keeps it."""

    id: str
    bundle_digest: str
    document: str
    sha256: str
    state: str
    method: str
    n: int
    events: int
    verdict: str
    verdict_said: str
    report: str
    made_at: datetime
    made_by: str
    approved_at: datetime | None
    approved_by: str | None
    activated_at: datetime | None
    activated_by: str | None
    activation: int | None

    @property
    def agreed_by(self) -> str:
        """Who approved that it is activated now; an approval is good for one time. Empty where nobody did."""
        used = self.activated_at is not None and self.approved_at is not None and self.approved_at <= self.activated_at
        return "" if used else self.approved_by or ""

    @property
    def calibration(self) -> Calibration:
        """The calibration itself. Raises CalibrationChanged when it is not the one that was stored."""
        return trusted({name: getattr(self, name) for name in ("id", "bundle_digest", "document", "sha256")})


COLUMNS = [calibrations.c[name] for name in CalibrationRow.__dataclass_fields__]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateVerdict:
    """What the report said of a candidate."""

    word: str
    said: str
    report: str


def add(
    engine: sa.Engine,
    bundle_digest: str,
    made: Calibration,
    verdict: CandidateVerdict,
    who: str,
    now: datetime,
    *,
    expected: tuple[SitePolicy, int] | None = None,
) -> CalibrationRow:
    """Enter a candidate. Raises NotAllowed when its id is taken.

    `expected` is the activation over which it was made, by these rules: where another is in force by now, it is not entered.
    """
    text = document_text(bundle_digest, made)
    with connect.writing(engine) as tx:
        if expected is not None:
            as_expected(tx, in_force(tx, expected[0]), bundle_digest, expected[1])
        if tx.scalar(sa.select(sa.literal(1)).where(calibrations.c.id == made.id)):
            raise NotAllowed(f"calibration {made.id} is in the ledger already")
        tx.execute(
            calibrations.insert().values(
                id=made.id,
                bundle_digest=bundle_digest,
                document=text,
                sha256=digest_of(text),
                state=CalibrationState.CANDIDATE,
                method=made.method,
                n=sum(its.n for _, its in made.maps()),
                events=sum(its.events for _, its in made.maps()),
                verdict=verdict.word,
                verdict_said=verdict.said,
                report=verdict.report,
                made_at=now,
                made_by=who,
            )
        )
        said = f"candidate {made.id} made for bundle {bundle_digest[:12]}: {verdict.word}"
        record(tx, Kind.CALIBRATION_MADE, said, now, actor=who, calibration=made.id, sha256=digest_of(text), verdict=verdict.word)
        return row_of(tx, made.id)


def as_expected(tx: sa.Connection, now: PolicyInForce, bundle_digest: str, activation: int | None) -> None:
    """Raises NotAllowed where another activation is in force than the one that a person was shown."""
    if activation is None or activation == now.activation:
        return
    active = active_row(tx, bundle_digest)
    said = f"{active.id}, put in force by {active.activated_by}" if active is not None else "the bundle's own calibration"
    raise NotAllowed(f"something else is in force than what you were shown: {said} (activation {now.activation}). Look, then decide")


def listed(engine: sa.Engine) -> list[CalibrationRow]:
    """Every calibration, the newest first."""
    with connect.reading(engine) as tx:
        query = sa.select(*COLUMNS).order_by(calibrations.c.made_at.desc(), calibrations.c.id)
        return [CalibrationRow(**row._mapping) for row in tx.execute(query)]


def find(engine: sa.Engine, text: str) -> CalibrationRow:
    """The calibration that a person means: its id or the end of it. Raises NotFound, NotAllowed."""
    with connect.reading(engine) as tx:
        for meant in (calibrations.c.id == text, calibrations.c.id.endswith(text, autoescape=True)):
            found = tx.execute(sa.select(*COLUMNS).where(meant).limit(2)).all()
            if len(found) == 1:
                return CalibrationRow(**found[0]._mapping)
            if found:
                raise NotAllowed(f"{text} means several calibrations; give more of the id")
    raise NotFound(f"no calibration {text} in the ledger; `prioritizer calibration list` shows them")


def applying(engine: sa.Engine, policy: SitePolicy) -> PolicyInForce:
    """What applies now for the bundle of `policy`, read only."""
    with connect.reading(engine) as tx:
        return in_force(tx, policy, held=False)


def approve(engine: sa.Engine, name: str, who: str, now: datetime) -> None:
    """A second person agrees that a candidate, or one that was in force before, may be activated; whoever agreed first stays named.

    Raises NotAllowed for the person who made it, and in any other state.
    """
    with connect.writing(engine) as tx:
        row = row_of(tx, name)
        if row.state not in (CalibrationState.CANDIDATE, CalibrationState.RETIRED):
            raise NotAllowed(f"calibration {name} is {row.state}, not a candidate")
        if row.agreed_by:
            raise NotAllowed(f"{row.agreed_by} approved calibration {name} already")
        if row.made_by.casefold() == who.casefold():
            raise NotAllowed(f"{who} made calibration {name}; another person approves it")
        trusted(_facts(row))
        tx.execute(calibrations.update().where(calibrations.c.id == name).values(approved_by=who, approved_at=now))
        record(tx, Kind.CALIBRATION_APPROVED, f"calibration {name} approved", now, actor=who, calibration=name, sha256=row.sha256)


def reject(engine: sa.Engine, name: str, who: str, reason: str, now: datetime) -> None:
    """A person decides against a candidate, permanently. Raises NotAllowed for anything but a candidate."""
    with connect.writing(engine) as tx:
        _enter(tx, row_of(tx, name), CalibrationState.REJECTED)
        said = f"calibration {name} rejected" + (f": {reason}" if reason else "")
        record(tx, Kind.CALIBRATION_REJECTED, said, now, actor=who, calibration=name)


def row_of(tx: sa.Connection, name: str, *, held: bool = True) -> CalibrationRow:
    """One calibration, its row held until the commit. Raises NotFound."""
    query = sa.select(*COLUMNS).where(calibrations.c.id == name)
    row = tx.execute(query.with_for_update() if held else query).one_or_none()
    if row is None:
        raise NotFound(f"no calibration {name} in the ledger; `prioritizer calibration list` shows them")
    return CalibrationRow(**row._mapping)


def _facts(row: CalibrationRow) -> Mapping[str, Any]:
    return {name: getattr(row, name) for name in ("id", "bundle_digest", "document", "sha256")}


def _enter(tx: sa.Connection, row: CalibrationRow, state: CalibrationState, **values: Any) -> None:
    """Move a calibration into `state`, when the table of transitions has that step."""
    allowed = calibrations.c.state.in_(states_before(CALIBRATION_TRANSITIONS, state))
    done = tx.execute(calibrations.update().where(calibrations.c.id == row.id, allowed).values(state=state, **values))
    if done.rowcount != 1:
        raise NotAllowed(f"calibration {row.id} is {row.state}: it cannot become {state}")


def take_its_place(
    tx: sa.Connection, policy: SitePolicy, before: PolicyInForce, chosen: CalibrationRow | None, who: str, now: datetime, *, back: bool
) -> None:
    """Retire what is active for the bundle and put `chosen` (None: the bundle's own) in its place, under the next activation."""
    number = before.activation + 1
    tx.execute(bundles.update().where(bundles.c.digest == policy.bundle_digest).values(activation=number))
    active = active_row(tx, policy.bundle_digest)
    if active is not None:
        _enter(tx, CalibrationRow(**{column.name: active._mapping[column.name] for column in COLUMNS}), CalibrationState.RETIRED)
    if chosen is not None:
        trusted(_facts(chosen))
        _enter(tx, chosen, CalibrationState.ACTIVE, activated_at=now, activated_by=who, activation=number)
    _keep_in_order(tx, policy.bundle_digest, chosen, who, now, back=back)


def _keep_in_order(tx: sa.Connection, bundle_digest: str, chosen: CalibrationRow | None, who: str, now: datetime, *, back: bool) -> None:
    """Going forward adds to what was in force; going back takes the newest away, to the bundle's own all of it."""
    if not back:
        entry = {"bundle_digest": bundle_digest, "calibration": chosen.id if chosen else None, "at": now, "by": who}
        tx.execute(activations.insert().values(**entry))
        return
    standing = in_order(tx, bundle_digest)
    undone = [row.id for row in (standing if chosen is None else standing[-1:])]
    tx.execute(activations.update().where(activations.c.id.in_(undone)).values(undone_at=now))


def in_order(tx: sa.Connection, bundle_digest: str) -> Sequence[sa.Row[Any]]:
    """What was put in force for a bundle and not gone back from, oldest first; the last is in force."""
    standing = (activations.c.bundle_digest == bundle_digest) & activations.c.undone_at.is_(None)
    return tx.execute(sa.select(activations).where(standing).order_by(activations.c.id)).all()
