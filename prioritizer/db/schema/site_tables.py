"""Tables of what the site decides and runs: calibrations, settings overrides, daemons, figures of the dashboard."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table

from prioritizer.db.schema.columns import Instant, metadata, one_of
from prioritizer.states import CalibrationState, SettingsOverrideState

daemons = Table(
    "daemons",
    metadata,
    Column("worker", sa.String(120), primary_key=True),
    Column("bundle_digest", sa.String(64), nullable=False, default=""),
    Column("spool", sa.Text, nullable=False, default=""),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
)
"""Who serves this ledger: each daemon writes its row while it does, by the database's clock."""

ranking_policy = Table(
    "ranking_policy",
    metadata,
    Column("one", sa.Integer, primary_key=True, autoincrement=False),
    Column("document", sa.Text, nullable=False),
    CheckConstraint("one = 1", name="one_row"),
)
"""The configured policy that the daemon ranks by: whatever opens a study places it by this, in whichever process."""

bundles = Table(
    "bundles",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    Column("activation", sa.Integer, nullable=False, default=0),
)
"""How often the calibration of a bundle was changed. Who scores or places holds the row shared, who activates holds it alone."""
activations = Table(
    "activations",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("bundle_digest", sa.String(64), nullable=False, index=True),
    Column("calibration", sa.String(80)),
    Column("at", Instant, nullable=False),
    Column("by", sa.Text, nullable=False),
    Column("undone_at", Instant),
)
"""What was put in force for a bundle, oldest first; NULL is the bundle's own. Going back marks the newest as undone."""
calibrations = Table(
    "calibrations",
    metadata,
    Column("id", sa.String(80), primary_key=True),
    Column("bundle_digest", sa.String(64), nullable=False, index=True),
    Column("document", sa.Text, nullable=False),
    Column("sha256", sa.String(64), nullable=False),
    Column("state", sa.String(16), nullable=False, default=CalibrationState.CANDIDATE),
    Column("method", sa.String(32), nullable=False),
    Column("n", sa.Integer, nullable=False),
    Column("events", sa.Integer, nullable=False),
    Column("verdict", sa.String(32), nullable=False),
    Column("verdict_said", sa.Text, nullable=False, default=""),
    Column("report", sa.Text, nullable=False, default=""),
    Column("made_at", Instant, nullable=False),
    Column("made_by", sa.Text, nullable=False),
    Column("approved_at", Instant),
    Column("approved_by", sa.Text),
    Column("activated_at", Instant),
    Column("activated_by", sa.Text),
    Column("activation", sa.Integer),
    one_of("state", CalibrationState),
    Index(
        "uq_calibrations_active",
        "bundle_digest",
        unique=True,
        sqlite_where=sa.text("state = 'ACTIVE'"),
        postgresql_where=sa.text("state = 'ACTIVE'"),
    ),
)

site_rules = Table(
    "site_rules",
    metadata,
    Column("one", sa.Integer, primary_key=True, autoincrement=False),
    Column("change", sa.Integer, nullable=False, default=0),
    CheckConstraint("one = 1", name="one_row"),
)
"""How often what lies above the configuration was changed. Who places holds the row shared, who decides on overrides holds it alone."""
rulings = Table(
    "rulings",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("state", sa.String(16), nullable=False, default=SettingsOverrideState.CANDIDATE),
    Column("document", sa.Text, nullable=False),
    Column("sha256", sa.String(64), nullable=False),
    Column("reason", sa.Text, nullable=False),
    Column("effect", sa.JSON, nullable=False),
    Column("proposed_at", Instant, nullable=False),
    Column("proposed_by", sa.Text, nullable=False),
    Column("approved_at", Instant),
    Column("approved_by", sa.Text),
    Column("activated_at", Instant),
    Column("activated_by", sa.Text),
    Column("ended_at", Instant),
    Column("ended_by", sa.Text),
    Column("replaced", sa.Integer, ForeignKey("rulings.id")),
    one_of("state", SettingsOverrideState),
    Index(
        "uq_rulings_active", "state", unique=True, sqlite_where=sa.text("state = 'ACTIVE'"), postgresql_where=sa.text("state = 'ACTIVE'")
    ),
)
"""What people ruled on the site's rules. `ended_by` is also who rejected one; `effect` is what was simulated when it was proposed."""

boards = Table(
    "boards",
    metadata,
    Column("period", sa.String(16), primary_key=True),
    Column("computed_at", Instant, nullable=False),
    Column("document", sa.JSON, nullable=False),
)
"""What the board told of a period, `latest` or a month."""
