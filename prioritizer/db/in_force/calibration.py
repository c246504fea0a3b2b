"""Which rules and which calibration apply, read inside the transaction that uses it, and held until that transaction ends.

Who scores or places holds the bundle's row shared; who activates holds it alone. So an activation waits for every score under way and
sees it, and every score that begins after it waits for the activation: none ends with the calibration before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from prioritizer.calibration.maps import Calibration, as_document, from_document
from prioritizer.calibration.verdict import FIT
from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force.settings import ruled
from prioritizer.db.schema.site_tables import bundles, calibrations
from prioritizer.db.schema.tables import scores
from prioritizer.errors import CalibrationChanged
from prioritizer.ranking.deadlines import Stage
from prioritizer.scope.verdict import Strictness
from prioritizer.states import CalibrationState

NOTHING_IS_RAISED = 2.0
"""A threshold above every probability: the list is STAT and order of arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """What holds in this transaction: the configured rules, the override over them, the thresholds of the calibration that applies."""

    policy: SitePolicy
    calibration: Calibration | None = None
    """None: there is no model here to score with, or what is stored cannot be trusted; scores stand as they were made."""
    activation: int = 0
    fault: str = ""
    """Why the active calibration cannot be trusted; then nothing is raised and nothing may be scored."""
    fit: bool = False
    """A calibration made at this site is active whose report said "fit to activate"."""

    @property
    def local_limit(self) -> float | None:
        """How far an image may lie from the training data here, in units of the bundle's limit; None: the bundle's own limit holds.

        Only a calibration that was judged fit sets one.
        """
        return self.calibration.local_limit if self.fit and self.calibration is not None else None

    @property
    def limit(self) -> float:
        """The limit in force, the site's own or the bundle's, in units of the bundle's."""
        return 1.0 if self.local_limit is None else self.local_limit

    @property
    def holds_back(self) -> bool:
        """Studies are moved or marked (stages pilot and active, by the override in force) and none that was judged fit is active."""
        return self.policy.ranking.stage is not Stage.SHADOW and not self.fit

    @property
    def leaves_out(self) -> bool:
        """An image beyond the limit is left unscored, by the site's rule."""
        return self._strictness is Strictness.ENFORCE

    @property
    def warns(self) -> bool:
        """An image beyond the limit carries a warning that says so."""
        return self._strictness is not Strictness.OFF

    @property
    def _strictness(self) -> Strictness:
        return self.policy.out_of_distribution.strictness(holds_back=self.holds_back)

    def leaves(self, distance: float) -> bool:
        """An image so far from the training data, in units of the bundle's limit, is left unscored."""
        return self.leaves_out and distance > self.limit


def document_text(bundle_digest: str, calibration: Calibration) -> str:
    """The canonical JSON of a calibration for a bundle: what is stored, and what the digest is taken of."""
    document = {"bundle_digest": bundle_digest, "calibration": as_document(calibration)}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_of(text: str) -> str:
    """Hex SHA-256 of a stored document."""
    return hashlib.sha256(text.encode()).hexdigest()


def trusted(row: Mapping[str, Any]) -> Calibration:
    """The calibration in a row of `calibrations`. Raises CalibrationChanged when it is not what was stored."""
    name = str(row["id"])
    if digest_of(row["document"]) != row["sha256"]:
        raise CalibrationChanged(f"calibration {name} is not what was stored (its digest differs)")
    try:
        document = json.loads(row["document"])
        found = from_document(document["calibration"])
    except (ValueError, KeyError, TypeError) as error:
        raise CalibrationChanged(f"calibration {name} cannot be read ({type(error).__name__})") from error
    if (found.id, document["bundle_digest"]) != (name, row["bundle_digest"]):
        raise CalibrationChanged(f"calibration {name} was made under another name, or for another bundle")
    return found


def in_force(tx: sa.Connection, policy: SitePolicy, *, alone: bool = False, held: bool = True) -> PolicyInForce:
    """The rules of `policy` with the active override and the calibration that is active for its bundle over them, held until the commit.

    `alone` by who changes the calibration. Call it before any study is held: whoever changes something takes them in this order.
    """
    policy = ruled(tx, policy, held=held).policy
    if not policy.bundle_digest or policy.own is None:
        return PolicyInForce(policy=policy)
    activation = held_activation(tx, policy.bundle_digest, alone=alone) if held else _activation(tx, policy.bundle_digest)
    row = active_row(tx, policy.bundle_digest)
    if row is None:
        own = policy.own
        return PolicyInForce(policy=policy.with_thresholds_of(own), calibration=own, activation=activation)
    try:
        found = trusted(dict(row._mapping))
    except CalibrationChanged as error:
        return PolicyInForce(policy=policy.with_thresholds(NOTHING_IS_RAISED, 0.0), activation=activation, fault=str(error))
    return PolicyInForce(policy=policy.with_thresholds_of(found), calibration=found, activation=activation, fit=row.verdict == FIT)


def active_row(tx: sa.Connection, bundle_digest: str) -> sa.Row[Any] | None:
    """The row of the calibration that is active for a bundle; None while its own applies."""
    return tx.execute(
        sa.select(calibrations).where(calibrations.c.bundle_digest == bundle_digest, calibrations.c.state == CalibrationState.ACTIVE)
    ).one_or_none()


def _activation(tx: sa.Connection, bundle_digest: str) -> int:
    return int(tx.scalar(sa.select(bundles.c.activation).where(bundles.c.digest == bundle_digest)) or 0)


def held_activation(tx: sa.Connection, bundle_digest: str, *, alone: bool) -> int:
    """How often this bundle's calibration was changed; its row is held until the commit."""
    wanted = sa.select(bundles.c.activation).where(bundles.c.digest == bundle_digest).with_for_update(read=not alone)
    found = tx.scalar(wanted)
    if found is None:
        insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
        tx.execute(insert(bundles).values(digest=bundle_digest, activation=0).on_conflict_do_nothing())
        found = tx.scalar(wanted)
    return int(found or 0)


def called_back(tx: sa.Connection, bundle_digest: str) -> int:
    """Count that a bundle serves again, whose row is held alone; returns its activation. A bundle that is new here stays at 0."""
    served = sa.select(sa.literal(1)).where(scores.c.bundle_digest == bundle_digest).exists()
    tx.execute(bundles.update().where(bundles.c.digest == bundle_digest, served).values(activation=bundles.c.activation + 1))
    return _activation(tx, bundle_digest)
