"""The configured policy that the daemon ranks by, kept in the ledger: whatever opens a study places it by this, in whichever process."""

from __future__ import annotations

import json
import logging
from dataclasses import fields
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.calibration.maps import as_document, from_document
from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import MICROSECOND
from prioritizer.db.schema.site_tables import ranking_policy
from prioritizer.ranking.deadlines import Policy, Stage
from prioritizer.scope.verdict import PopulationRule

log = logging.getLogger(__name__)
SPANS = frozenset({"high", "neutral", "low"})


def remember(tx: sa.Connection, policy: Policy) -> None:
    """Keep the policy, where it is another than the one kept. By what ranks for the daemon, in the transaction that ranks."""
    text = _text(policy)
    if tx.scalar(sa.select(ranking_policy.c.document)) == text:
        return
    row = connect.insert(tx, ranking_policy).values(one=1, document=text)
    tx.execute(row.on_conflict_do_update(index_elements=["one"], set_={"document": text}))


def remembered(tx: sa.Connection) -> Policy | None:
    """The policy that the daemon ranked by last; None in a ledger that nothing was ranked in, or where another version wrote it."""
    text = tx.scalar(sa.select(ranking_policy.c.document))
    try:
        return None if text is None else _policy(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("the policy kept in the ledger cannot be read (%s)", type(error).__name__, extra={"event": "policy-unreadable"})
        return None


def _text(policy: Policy) -> str:
    document: dict[str, Any] = {}
    for field in fields(Policy):
        value = getattr(policy, field.name)
        document[field.name] = value // MICROSECOND if isinstance(value, timedelta) else value
    document["own"] = as_document(policy.own) if policy.own is not None else None
    return json.dumps(document, sort_keys=True)


def _policy(text: str) -> Policy:
    document = json.loads(text)
    known = {field.name for field in fields(Policy)}
    values = {name: value * MICROSECOND if name in SPANS else value for name, value in document.items() if name in known}
    own = document["own"]
    by_age = {name: tuple(values[name]) for name in ("adults", "ageless") if values.get(name) is not None}
    words = {
        "stage": Stage(document["stage"]),
        "out_of_distribution": PopulationRule(document.get("out_of_distribution", PopulationRule.UNTIL_CALIBRATED)),
    }
    return Policy(**{**values, **by_age, **words, "own": from_document(own) if own is not None else None})
