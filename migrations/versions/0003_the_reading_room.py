"""People, their sessions, tokens and one-time links; what readers say of a study; what a study is found by; the list at any size."""

import sqlalchemy as sa
from alembic import op

from prioritizer.db.list_order.search_terms import terms_of

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IN_FORCE = sa.text("withdrawn_at IS NULL")
UNREAD = "listed AND reading_state <> 'READ'"
ROLES = "role IN ('reader', 'physicist', 'admin')"


def upgrade() -> None:
    op.create_table(
        "people",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(ROLES, name=op.f("ck_people_role_known")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_people")),
    )
    op.create_table(
        "sessions",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.name"], name=op.f("fk_sessions_person")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_person"), "sessions", ["person"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person"], ["people.name"], name=op.f("fk_tokens_person")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_tokens")),
        sa.UniqueConstraint("id", name=op.f("uq_tokens_id")),
    )
    op.create_index(op.f("ix_tokens_person"), "tokens", ["person"], unique=False)
    op.create_table(
        "invitations",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(ROLES, name=op.f("ck_invitations_role_known")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_invitations")),
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_uid", sa.String(length=80), nullable=False),
        sa.Column("reader", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("finding", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("seen", sa.Boolean(), nullable=False),
        sa.Column("ranked", sa.Boolean(), nullable=False),
        sa.Column("band", sa.String(length=8), nullable=False),
        sa.Column("ai_state", sa.String(length=16), nullable=False),
        sa.Column("risk", sa.Float(), nullable=True),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("finding IN ('present', 'absent', 'unsure')", name=op.f("ck_feedback_finding_known")),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_feedback_study_uid")),
        sa.ForeignKeyConstraint(["score"], ["scores.id"], name=op.f("fk_feedback_score")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index(op.f("ix_feedback_study_uid"), "feedback", ["study_uid"], unique=False)
    op.create_index(op.f("ix_feedback_at"), "feedback", ["at"], unique=False)
    op.create_index(
        "uq_feedback_in_force", "feedback", ["study_uid", "reader"], unique=True, sqlite_where=IN_FORCE, postgresql_where=IN_FORCE
    )
    op.create_table(
        "saved_views",
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person", "name", name=op.f("pk_saved_views")),
    )
    op.create_table(
        "choices",
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("chosen", sa.JSON(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_choices")),
    )
    op.create_table(
        "boards",
        sa.Column("period", sa.String(length=16), nullable=False),
        sa.Column("computed_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("period", name=op.f("pk_boards")),
    )
    found_by()
    indexes()


def found_by() -> None:
    """The terms of every study that is there already, some thousand at a time."""
    kept = op.create_table(
        "terms",
        sa.Column("term", sa.String(80).with_variant(sa.String(80, collation="C"), "postgresql"), nullable=False),
        sa.Column("study_uid", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_terms_study_uid")),
        sa.PrimaryKeyConstraint("term", "study_uid", name=op.f("pk_terms")),
        sqlite_with_rowid=False,
    )
    names = ("study_uid", "patient_id", "patient_name", "accession_number")
    studies = sa.table("studies", *(sa.column(name) for name in names))
    after = ""
    while True:
        page = op.get_bind().execute(sa.select(studies).where(studies.c.study_uid > after).order_by(studies.c.study_uid).limit(2000)).all()
        if not page:
            return
        rows = [{"term": term, "study_uid": row.study_uid} for row in page for term in terms_of(**row._mapping)]
        op.get_bind().execute(sa.insert(kept), rows)
        after = page[-1].study_uid


def indexes() -> None:
    """The list's own, over the unread studies only: their size is that of the list, not that of the ledger."""
    op.drop_index("ix_studies_order", "studies")
    op.drop_index("ix_studies_arrival", "studies")
    order = [sa.text("stat DESC"), "due_at", "first_received_at", "study_uid"]
    partial("ix_studies_order", "studies", order, f"{UNREAD} AND expired_at IS NULL")
    partial("ix_studies_arrival", "studies", [sa.text("stat DESC"), "first_received_at", "study_uid"], f"{UNREAD} AND expired_at IS NULL")
    partial("ix_studies_expired", "studies", order, f"{UNREAD} AND expired_at IS NOT NULL")
    partial("ix_studies_read", "studies", ["read_at", "study_uid"], "listed AND reading_state = 'READ'")
    partial("ix_deliveries_unfinished", "deliveries", ["state"], "state IN ('PENDING', 'REJECTED')")
    op.create_index("ix_studies_last", "studies", ["last_received_at"])


def partial(name: str, table: str, columns: list[object], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    for table, name in (
        ("studies", "ix_studies_last"), ("studies", "ix_studies_read"), ("studies", "ix_studies_expired"), ("studies", "ix_studies_order"),
        ("studies", "ix_studies_arrival"), ("deliveries", "ix_deliveries_unfinished"),
    ):  # fmt: skip
        op.drop_index(name, table)
    order = ["listed", "reading_state", sa.text("stat DESC")]
    op.create_index("ix_studies_order", "studies", [*order, "due_at", "first_received_at", "study_uid"])
    op.create_index("ix_studies_arrival", "studies", [*order, "first_received_at", "study_uid"])
    for table in ("terms", "boards", "choices", "saved_views", "feedback", "invitations", "tokens", "sessions", "people"):
        op.drop_table(table)
