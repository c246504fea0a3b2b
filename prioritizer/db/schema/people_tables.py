"""Tables of people: accounts, sessions, feedback, and what each chose."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, Table

from prioritizer.access import Role
from prioritizer.db.schema.columns import Instant, metadata, one_of
from prioritizer.study import ReaderFinding

people = Table(
    "people",
    metadata,
    Column("name", sa.String(64), primary_key=True),
    Column("role", sa.String(16), nullable=False),
    Column("password", sa.Text, nullable=False, default=""),
    Column("made_at", Instant, nullable=False),
    Column("made_by", sa.Text, nullable=False),
    Column("disabled_at", Instant),
    one_of("role", Role),
)
"""`password` is an Argon2id hash with its parameters; empty for those who never sign in with one."""

sessions = Table(
    "sessions",
    metadata,
    Column("key", sa.String(64), primary_key=True),
    Column("person", sa.String(64), ForeignKey("people.name"), nullable=False, index=True),
    Column("began_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("ended_by", sa.Text, nullable=False, default=""),
    Column("address", sa.Text, nullable=False, default=""),
)
"""`key` is the SHA-256 of what the browser holds: who reads the table can sign in as nobody."""

tokens = Table(
    "tokens",
    metadata,
    Column("key", sa.String(64), primary_key=True),
    Column("id", sa.String(16), nullable=False, unique=True),
    Column("person", sa.String(64), ForeignKey("people.name"), nullable=False, index=True),
    Column("purpose", sa.Text, nullable=False),
    Column("scopes", sa.JSON, nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("made_by", sa.Text, nullable=False),
    Column("ends_at", Instant, nullable=False),
    Column("used_at", Instant),
    Column("revoked_at", Instant),
)

invitations = Table(
    "invitations",
    metadata,
    Column("key", sa.String(64), primary_key=True),
    Column("person", sa.String(64), nullable=False),
    Column("role", sa.String(16), nullable=False),
    Column("made_at", Instant, nullable=False),
    Column("made_by", sa.Text, nullable=False),
    Column("ends_at", Instant, nullable=False),
    Column("used_at", Instant),
    one_of("role", Role),
)
"""One-time links: for the first administrator, a new person, a forgotten password. Where `person` is empty the name is chosen then."""

feedback = Table(
    "feedback",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("study_uid", sa.String(80), ForeignKey("studies.study_uid"), nullable=False, index=True),
    Column("reader", sa.String(64), nullable=False),
    Column("at", Instant, nullable=False, index=True),
    Column("finding", sa.String(16), nullable=False),
    Column("note", sa.Text, nullable=False, default=""),
    Column("seen", sa.Boolean, nullable=False),
    Column("ranked", sa.Boolean, nullable=False),
    Column("band", sa.String(8), nullable=False),
    Column("ai_state", sa.String(16), nullable=False),
    Column("risk", sa.Float),
    Column("score", sa.Integer, ForeignKey("scores.id")),
    Column("withdrawn_at", Instant),
    one_of("finding", ReaderFinding),
    Index(
        "uq_feedback_in_force",
        "study_uid",
        "reader",
        unique=True,
        sqlite_where=sa.text("withdrawn_at IS NULL"),
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    ),
)
"""What a reader says of a study, with what the reader had seen and where the study stood at that moment. Nothing is overwritten."""

saved_views = Table(
    "saved_views",
    metadata,
    Column("person", sa.String(64), primary_key=True),
    Column("name", sa.String(64), primary_key=True),
    Column("query", sa.Text, nullable=False),
    Column("made_at", Instant, nullable=False),
)
"""A list under a name: the address of it. Where `person` is empty it is the site's."""

choices = Table(
    "choices",
    metadata,
    Column("person", sa.String(64), primary_key=True),
    Column("chosen", sa.JSON, nullable=False),
    Column("at", Instant, nullable=False),
)
"""What a reader has chosen for their pages: nothing that changes what is done to a study."""
