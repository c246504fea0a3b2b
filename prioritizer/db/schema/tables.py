"""The tables of the ledger, the same on SQLite and Postgres. Alembic's revisions in `migrations/` build exactly these."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, MetaData, Table, UniqueConstraint
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from prioritizer.access import Role
from prioritizer.ranking.deadlines import Band
from prioritizer.study import AIState, CalibrationState, CopyState, DeliveryState, Finding, InstanceState, ReadingState, RulingState

UNREAD = "listed AND reading_state <> 'READ'"
READ = "listed AND reading_state = 'READ'"
"""Conditions of partial indexes, as text: a database uses such an index only for a query that says the same without parameters."""
LEFT_OUT = "state = 'INELIGIBLE' AND reason = 'out_of_distribution'"
SCORED_BEYOND = "state = 'SCORED' AND out_of_distribution > 1"
"""Images beyond the limit of the training data, left unscored for it or scored; also conditions of partial indexes."""
NO_READER: dict[str, None] = {"reader": None, "reader_since": None, "reader_until": None}
"""The columns of a study that nobody has claimed or read."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(sa.types.TypeDecorator[datetime]):
    """A moment as microseconds since 1970 UTC: sorts and compares alike on every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Aware moment to microseconds."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        """Microseconds to an aware moment in UTC."""
        return None if value is None else EPOCH + value * MICROSECOND


class database_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's own clock: leases of several hosts are compared on one clock."""

    type = Instant()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(element: database_now, compiler: Any, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"


@compiles(database_now, "postgresql")
def _postgres_now(element: database_now, compiler: Any, **kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """A CHECK that `column` holds a member of `values`."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _partial(name: str, where: str, *columns: Any) -> Index:
    """An index over the rows where a condition holds."""
    return Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

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
    _partial("ix_studies_order", f"{UNREAD} AND expired_at IS NULL", sa.text("stat DESC"), "due_at", "first_received_at", "study_uid"),
    _partial("ix_studies_arrival", f"{UNREAD} AND expired_at IS NULL", sa.text("stat DESC"), "first_received_at", "study_uid"),
    _partial(
        "ix_studies_expired", f"{UNREAD} AND expired_at IS NOT NULL", sa.text("stat DESC"), "due_at", "first_received_at", "study_uid"
    ),
    _partial("ix_studies_read", READ, "read_at", "study_uid"),
    Index("ix_studies_last", "last_received_at"),
    Index(
        "ix_studies_unpublished",
        "not_before",
        sqlite_where=sa.text("revision > published_revision"),
        postgresql_where=sa.text("revision > published_revision"),
    ),
    Index("ix_studies_scored", "ai_state", "first_received_at"),
    _partial("ix_studies_held", "held <> ''", "held"),
    _partial("ix_studies_identity", "identity <> ''", "last_received_at"),
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
"""What each study is found by (`search`): a prefix is a range of this key, in bytes on both databases."""

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
    _partial("ix_instances_left_out", LEFT_OUT, "received_at"),
    _partial("ix_instances_scored_beyond", SCORED_BEYOND, "received_at"),
    _partial("ix_instances_file_fault", "file_fault <> ''", "file_fault"),
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
    _partial("ix_deliveries_unfinished", "state IN ('PENDING', 'REJECTED')", "state"),
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
    _partial("ix_events_audited", AUDITED, "at", "id"),
    _partial("ix_events_actor", AUDITED, "actor", "at", "id"),
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
    _partial("ix_differing_copies_waiting", "state = 'WAITING'", "at"),
    _partial("ix_differing_copies_taking", "state = 'TAKING'", "at"),
)
"""Other bytes that came under a SOP Instance UID already held: `file` lies in the spool's conflicts/. `particulars` are the copy's own;
`entry` counts the copies in the order in which they were entered, whatever the clock did."""

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
"""How often what lies above the configuration was changed. Who places holds the row shared, who decides on rulings holds it alone."""
rulings = Table(
    "rulings",
    metadata,
    Column("id", sa.Integer, primary_key=True),
    Column("state", sa.String(16), nullable=False, default=RulingState.CANDIDATE),
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
    one_of("state", RulingState),
    Index(
        "uq_rulings_active", "state", unique=True, sqlite_where=sa.text("state = 'ACTIVE'"), postgresql_where=sa.text("state = 'ACTIVE'")
    ),
)
"""What people ruled on the site's rules. `ended_by` is also who rejected one; `effect` is what was simulated when it was proposed."""

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
    one_of("finding", Finding),
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

boards = Table(
    "boards",
    metadata,
    Column("period", sa.String(16), primary_key=True),
    Column("computed_at", Instant, nullable=False),
    Column("document", sa.JSON, nullable=False),
)
"""What the board told of a period, `latest` or a month."""
