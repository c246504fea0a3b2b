"""Every table of the ledger in one MetaData: what the revisions in `migrations/` build."""

from __future__ import annotations

from prioritizer.db.schema import people_tables, site_tables, tables
from prioritizer.db.schema.columns import metadata

__all__ = ["metadata", "people_tables", "site_tables", "tables"]
