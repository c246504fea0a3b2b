"""The policy that the daemon runs by, kept in the ledger: whatever opens a study places it by this, in whichever process."""

from __future__ import annotations

import json
import logging
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.calibration.maps import as_document, from_document
from prioritizer.config.policy import QuietTime, SitePolicy
from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import MICROSECOND
from prioritizer.db.schema.site_tables import ranking_policy
from prioritizer.ranking.deadlines import RankingPolicy, Stage
from prioritizer.scope.verdict import PopulationRule

log = logging.getLogger(__name__)
RANKING = tuple(field.name for field in fields(RankingPolicy))
SPANS = frozenset({"high", "neutral", "low", "quiet", "quiet_ceiling"})
"""Kept as whole microseconds."""


def remember(tx: sa.Connection, policy: SitePolicy) -> None:
    """Keep the policy, where it is another than the one kept. By what ranks for the daemon, in the transaction that ranks."""
    text = _text(policy)
    if tx.scalar(sa.select(ranking_policy.c.document)) == text:
        return
    row = connect.insert(tx, ranking_policy).values(one=1, document=text)
    tx.execute(row.on_conflict_do_update(index_elements=["one"], set_={"document": text}))


def remembered(tx: sa.Connection) -> SitePolicy | None:
    """The policy that the daemon ran by last; None in a ledger that nothing was ranked in, or where another version wrote it."""
    text = tx.scalar(sa.select(ranking_policy.c.document))
    try:
        return None if text is None else _policy(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("the policy kept in the ledger cannot be read (%s)", type(error).__name__, extra={"event": "policy-unreadable"})
        return None


def _text(policy: SitePolicy) -> str:
    """One flat document, as version 0.1 wrote it; what it did not know of has keys of its own."""
    document: dict[str, Any] = {name: getattr(policy.ranking, name) for name in RANKING}
    document |= {
        "bundle_digest": policy.bundle_digest,
        "own": as_document(policy.own) if policy.own is not None else None,
        "out_of_distribution": policy.out_of_distribution,
        "quiet": policy.quiet.quiet,
        "quiet_ceiling": policy.quiet.ceiling,
    }
    plain = {name: value // MICROSECOND if isinstance(value, timedelta) else value for name, value in document.items()}
    return json.dumps(plain, sort_keys=True)


def _policy(text: str) -> SitePolicy:
    document = {name: value * MICROSECOND if name in SPANS else value for name, value in json.loads(text).items()}
    ranking = {name: document[name] for name in RANKING if name in document}
    ranking |= {name: tuple(document[name]) for name in ("adults", "ageless") if document.get(name) is not None}
    policy = SitePolicy(
        ranking=RankingPolicy(**{**ranking, "stage": Stage(document["stage"])}),
        bundle_digest=document["bundle_digest"],
        own=from_document(document["own"]) if document["own"] is not None else None,
        out_of_distribution=PopulationRule(document.get("out_of_distribution", PopulationRule.UNTIL_CALIBRATED)),
    )
    if "quiet" not in document:
        return policy
    return replace(policy, quiet=QuietTime(quiet=document["quiet"], ceiling=document["quiet_ceiling"]))
