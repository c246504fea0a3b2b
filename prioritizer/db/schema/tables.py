"""The tables of the ledger, the same on SQLite and Postgres. Alembic's revisions in `migrations/` build exactly these."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, UniqueConstraint

from prioritizer.db.schema.columns import LEFT_OUT, READ, SCORED_BEYOND, UNREAD, Instant, metadata, one_of, partial_index
from prioritizer.ranking.deadlines import Band
from prioritizer.states import CopyState, DeliveryState, InstanceState, ReadingState
from prioritizer.study import AIState

studies = Table(
    "studies",
    metadata,
    Column("study_uid", sa.String(80), primary_key=True),
    Column("patient_id", sa.Text, nullable=False, default=""),
    Column("issuer", sa.Text, nullable=False, default="", server_default=""),
    Column("patient_name", sa.Text, nullable=False, default=""),
    Column("patient_birth_date", sa.Text, nullable=False, default=""),
    Column("patient_sex", sa.Text, nullable=False, default=""),
    Column("age_years", sa.Float),
    Column("accession_number", sa.Text, nullable=False, default=""),
    Column("study_description", sa.Text, nullable=False, default=""),
    Column("modality", sa.Text, nullable=False, default=""),
    Column("calling_ae", sa.Text, nullable=False, default=""),
    Column("first_received_at", Instant, nullable=False),
    Column("last_received_at", Instant, nullable=False),
    Column("instances", sa.Integer, nullable=False, default=0),
    # How often something to look at entered the row: every object, and every image that came again with other pixels.
    Column("entries", sa.Integer, nullable=False, default=0, server_default="0"),
    Column("listed", sa.Boolean, nullable=False, default=True),
    # ranking
    Column("stat", sa.Boolean, nullable=False, default=False),
    Column("pinned_by", sa.Text),
    Column("ai_state", sa.String(16), nullable=False, default=AIState.WAITING),
    Column("ai_reason", sa.Text, nullable=False, default=""),
    Column("risk", sa.Float),
    Column("deciding_instance", sa.String(64)),
    Column("band", sa.String(8), nullable=False, default=Band.NEUTRAL),
    Column("due_at", Instant, nullable=False),
    Column("place_reason", sa.Text, nullable=False, default=""),
    Column("overdue_at", Instant),
    Column("expired_at", Instant),
    Column("listed_since", Instant),
    # reading
    Column("reading_state", sa.String(16), nullable=False, default=ReadingState.OPEN),
    Column("reader", sa.Text),
    Column("reader_since", Instant),
    Column("reader_until", Instant),
    Column("read_at", Instant),
    # publishing
    Column("revision", sa.Integer, nullable=False, default=0),
    Column("published_revision", sa.Integer, nullable=False, default=0),
    Column("publish_by", Instant),
    Column("claimed_by", sa.Text),
    Column("claimed_until", Instant),
    Column("attempts", sa.Integer, nullable=False, default=0),
    Column("not_before", Instant),
    Column("publish_error", sa.Text, nullable=False, default=""),
    Column("held", sa.String(16), nullable=False, default="", server_default=""),
    Column("identity", sa.Text, nullable=False, default="", server_default=""),
    one_of("ai_state", AIState),
    one_of("band", Band),
    one_of("reading_state", ReadingState),
    partial_index("ix_studies_order", f"{UNREAD} AND expired_at IS NULL", sa.text("stat DESC"), "due_at", "first_received_at", "study_uid"),
    partial_index("ix_studies_arrival", f"{UNREAD} AND expired_at IS NULL", sa.text("stat DESC"), "first_received_at", "study_uid"),
    partial_index(
        "ix_studies_expired", f"{UNREAD} AND expired_at IS NOT NULL", sa.text("stat DESC"), "due_at", "first_received_at", "study_uid"
    ),
    partial_index("ix_studies_read", READ, "read_at", "study_uid"),
    Index("ix_studies_last", "last_received_at"),
    Index(
        "ix_studies_unpublished",
        "not_before",
        sqlite_where=sa.text("revision > published_revision"),
        postgresql_where=sa.text("revision > published_revision"),
    ),
    Index("ix_studies_scored", "ai_state", "first_received_at"),
    partial_index("ix_studies_held", "held <> ''", "held"),
    partial_index("ix_studies_identity", "identity <> ''", "last_received_at"),
)
"""`study_uid` is the Study Instance UID, or stands for one: `study.row_key`. `listed_since`: a person put it back on the list.
`held`: why no result of the study goes out (`Hold`).
`identity`: what a person must confirm about whose study it is, in words."""

terms = Table(
    "terms",
    metadata,
    Column("term", sa.String(80).with_variant(sa.String(80, collation="C"), "postgresql"), primary_key=True),
    Column("study_uid", sa.String(80), ForeignKey("studies.study_uid"), primary_key=True),
    sqlite_with_rowid=False,
)
"""What each study is found by (`search_terms`): a prefix is a range of this key, in bytes on both databases."""

instances = Table(
    "instances",
    metadata,
    Column("sop_instance_uid", sa.String(64), primary_key=True),
    Column("study_uid", sa.String(80), ForeignKey("studies.study_uid"), nullable=False, index=True),
    Column("series_uid", sa.String(64), nullable=False, default=""),
    Column("sop_class_uid", sa.String(64), nullable=False),
    Column("transfer_syntax_uid", sa.String(64), nullable=False),
    Column("calling_ae", sa.String(16), nullable=False),
    Column("called_ae", sa.String(16), nullable=False),
    Column("address", sa.Text, nullable=False, default=""),
    Column("received_at", Instant, nullable=False),
    # What the receipt says, whatever the clock was then: `received_at` is never later than the present.
    Column("receipt_at", Instant, nullable=False, server_default="0"),
    Column("sha256", sa.String(64), nullable=False),
    Column("size", sa.BigInteger, nullable=False),
    Column("attributes", sa.JSON, nullable=False),
    Column("state", sa.String(16), nullable=False, default=InstanceState.RECEIVED),
    Column("reason", sa.String(32), nullable=False, default=""),
    Column("reason_text", sa.Text, nullable=False, default=""),
    Column("claimed_by", sa.Text),
    Column("claimed_until", Instant),
    Column("attempts", sa.Integer, nullable=False, default=0),
    Column("not_before", Instant),
    Column("pixels_deleted_at", Instant),
    Column("file_fault", sa.String(16), nullable=False, default="", server_default=""),
    # How often other pixels took the place of those that it came with: a score is of one of them.
    Column("pixels_version", sa.Integer, nullable=False, default=0, server_default="0"),
    # Its number among the entries of its row, from 1, renewed where other pixels came: who saw `entries` n has seen up to n. 0: our own.
    Column("entry", sa.Integer, nullable=False, default=0, server_default="0"),
    # How far it lies from the training data, in units of the limit of the bundle that measured it; NULL where no guard was asked.
    Column("out_of_distribution", sa.Float),
    Column("measured_by", sa.String(64), nullable=False, default="", server_default=""),
    one_of("state", InstanceState),
    partial_index("ix_instances_left_out", LEFT_OUT, "received_at"),
    partial_index("ix_instances_scored_beyond", SCORED_BEYOND, "received_at"),
    partial_index("ix_instances_file_fault", "file_fault <> ''", "file_fault"),
    Index(
        "ix_instances_waiting",
        "attempts",
        "received_at",
        sqlite_where=sa.text("state = 'RECEIVED'"),
        postgresql_where=sa.text("state = 'RECEIVED'"),
    ),
)

MADE = (
    "sop_instance_uid", "bundle_digest", "calibration_id", "preprocessing_id", "engine", "precision", "activation", "pixels_version",
)  # fmt: skip
scores = Table(
    "scores",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("sop_instance_uid", sa.String(64), ForeignKey("instances.sop_instance_uid"), nullable=False),
    Column("bundle_digest", sa.String(64), nullable=False),
    Column("calibration_id", sa.Text, nullable=False),
    Column("preprocessing_id", sa.Text, nullable=False),
    Column("engine", sa.Text, nullable=False),
    Column("precision", sa.Text, nullable=False),
    Column("logit", sa.Float, nullable=False),
    Column("probability", sa.Float, nullable=False),
    Column("saliency", sa.LargeBinary, nullable=False),
    Column("embedding", sa.LargeBinary, nullable=False),
    Column("warnings", sa.JSON, nullable=False),
    Column("scored_at", Instant, nullable=False),
    Column("activation", sa.Integer, nullable=False, default=0, server_default="0"),
    Column("pixels_version", sa.Integer, nullable=False, default=0, server_default="0"),
    CheckConstraint("probability >= 0 AND probability <= 1", name="probability_range"),
    UniqueConstraint(*MADE, name="uq_scores_made"),
)

results = Table(
    "results",
    metadata,
    Column("sop_instance_uid", sa.String(64), primary_key=True),
    Column("sop_class_uid", sa.String(64), nullable=False),
    Column("transfer_syntax_uid", sa.String(64), nullable=False),
    Column("study_uid", sa.String(80), ForeignKey("studies.study_uid"), nullable=False, index=True),
    Column("source_instance_uid", sa.String(64), nullable=False),
    Column("revision", sa.Integer, nullable=False),
    Column("built_at", Instant, nullable=False),
    Column("sha256", sa.String(64), nullable=False),
    Column("data", sa.LargeBinary, nullable=False),
    Column("data_deleted_at", Instant),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("result_uid", sa.String(64), ForeignKey("results.sop_instance_uid"), nullable=False),
    Column("study_uid", sa.String(80), ForeignKey("studies.study_uid"), nullable=False, index=True),
    Column("destination", sa.String(32), nullable=False),
    Column("state", sa.String(16), nullable=False, default=DeliveryState.PENDING),
    Column("reason_text", sa.Text, nullable=False, default=""),
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),
    Column("claimed_by", sa.Text),
    Column("claimed_until", Instant),
    Column("attempts", sa.Integer, nullable=False, default=0),
    Column("not_before", Instant),
    one_of("state", DeliveryState),
    UniqueConstraint("result_uid", "destination"),
    partial_index("ix_deliveries_unfinished", "state IN ('PENDING', 'REJECTED')", "state"),
    Index(
        "ix_deliveries_pending",
        "destination",
        "attempts",
        "created_at",
        sqlite_where=sa.text("state = 'PENDING'"),
        postgresql_where=sa.text("state = 'PENDING'"),
    ),
)

BY_ITSELF = ("arrived", "scored", "placed", "published", "sent", "late-instance", "more-images", "lease-ended", "overdue")
"""Kinds of event that the audit log leaves out unless it is asked for them: what prioritizer does all day."""
AUDITED = f"kind NOT IN ({', '.join(repr(kind) for kind in BY_ITSELF)})"
"""All others, as its indexes have it: a query that says it in other words would read every event."""
events = Table(
    "events",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("kind", sa.String(32), nullable=False),
    Column("study_uid", sa.String(80), index=True),
    Column("sop_instance_uid", sa.String(64)),
    Column("actor", sa.Text, nullable=False),
    Column("said", sa.Text, nullable=False),
    Column("detail", sa.JSON, nullable=False),
    Index("ix_events_kind_at", "kind", "at"),
    partial_index("ix_events_audited", AUDITED, "at", "id"),
    partial_index("ix_events_actor", AUDITED, "actor", "at", "id"),
)

ECHO = "echo"
"""The kind of notice that is no refusal: an admitted peer sent a C-ECHO. One row a peer, its newest."""
notices = Table(
    "notices",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("name", sa.String(80), nullable=False, unique=True),
    Column("at", Instant, nullable=False),
    Column("kind", sa.String(32), nullable=False),
    Column("address", sa.Text, nullable=False, default=""),
    Column("calling_ae", sa.Text, nullable=False, default=""),
    Column("called_ae", sa.Text, nullable=False, default=""),
    Column("reason", sa.Text, nullable=False, default=""),
    Column("detail", sa.JSON, nullable=False),
    Index("ix_notices_kind_at", "kind", "at"),
    Index("ix_notices_calling_ae", "calling_ae", "at"),
)

alarms = Table(
    "alarms",
    metadata,
    Column("name", sa.String(80), primary_key=True),
    Column("since", Instant, nullable=False),
    Column("said", sa.Text, nullable=False),
    Column("mend", sa.Text, nullable=False, default=""),
)

differing_copies = Table(
    "differing_copies",
    metadata,
    Column("file", sa.String(96), primary_key=True),
    Column("sop_instance_uid", sa.String(64), nullable=False, index=True),
    Column("study_uid", sa.String(80), ForeignKey("studies.study_uid"), nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("entry", sa.Integer, nullable=False, default=0),
    Column("state", sa.String(16), nullable=False, default=CopyState.WAITING),
    Column("particulars", sa.JSON, nullable=False),
    Column("settled_at", Instant),
    Column("settled_by", sa.Text),
    one_of("state", CopyState),
    partial_index("ix_differing_copies_waiting", "state = 'WAITING'", "at"),
    partial_index("ix_differing_copies_taking", "state = 'TAKING'", "at"),
)
"""Other bytes that came under a SOP Instance UID already held: `file` lies in the spool's conflicts/. `particulars` are the copy's own;
`entry` counts the copies in the order in which they were entered, whatever the clock did."""
