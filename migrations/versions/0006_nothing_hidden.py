"""Whose study it is, what is wrong with its files, who serves the ledger, and what was in force before."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

HELD = sa.text("held <> ''")
UNSURE = sa.text("identity <> ''")
FAULTY = sa.text("file_fault <> ''")
WAITING = sa.text("state = 'WAITING'")
TAKING = sa.text("state = 'TAKING'")
MADE = ["sop_instance_uid", "bundle_digest", "calibration_id", "preprocessing_id", "engine", "precision", "activation"]


def upgrade() -> None:
    op.add_column("studies", sa.Column("held", sa.String(length=16), nullable=False, server_default=""))
    op.add_column("studies", sa.Column("identity", sa.Text(), nullable=False, server_default=""))
    op.create_index("ix_studies_held", "studies", ["held"], sqlite_where=HELD, postgresql_where=HELD)
    op.add_column("studies", sa.Column("issuer", sa.Text(), nullable=False, server_default=""))
    op.add_column("studies", sa.Column("entries", sa.Integer(), nullable=False, server_default="0"))
    op.execute(sa.text("UPDATE studies SET entries = instances"))
    op.add_column("studies", sa.Column("listed_since", sa.BigInteger(), nullable=True))
    op.create_index("ix_studies_identity", "studies", ["last_received_at"], sqlite_where=UNSURE, postgresql_where=UNSURE)
    op.add_column("instances", sa.Column("file_fault", sa.String(length=16), nullable=False, server_default=""))
    op.add_column("instances", sa.Column("receipt_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(sa.text("UPDATE instances SET receipt_at = received_at"))
    op.add_column("instances", sa.Column("entry", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("instances", sa.Column("pixels_version", sa.Integer(), nullable=False, server_default="0"))
    with _feedback_let_go(), op.batch_alter_table("scores") as batch:
        batch.add_column(sa.Column("pixels_version", sa.Integer(), nullable=False, server_default="0"))
        batch.drop_constraint("uq_scores_made", type_="unique")
        batch.create_unique_constraint("uq_scores_made", [*MADE, "pixels_version"])
    op.create_index("ix_instances_file_fault", "instances", ["file_fault"], sqlite_where=FAULTY, postgresql_where=FAULTY)
    op.add_column("results", sa.Column("data_deleted_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "differing_copies",
        sa.Column("file", sa.String(length=96), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=80), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("particulars", sa.JSON(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_by", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('WAITING', 'SAME', 'TAKING', 'KEPT', 'TAKEN')", name=op.f("ck_differing_copies_state_known")),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_differing_copies_study_uid")),
        sa.PrimaryKeyConstraint("file", name=op.f("pk_differing_copies")),
    )
    op.create_index(op.f("ix_differing_copies_sop_instance_uid"), "differing_copies", ["sop_instance_uid"])
    op.create_index(op.f("ix_differing_copies_study_uid"), "differing_copies", ["study_uid"])
    op.create_index("ix_differing_copies_waiting", "differing_copies", ["at"], sqlite_where=WAITING, postgresql_where=WAITING)
    op.create_index("ix_differing_copies_taking", "differing_copies", ["at"], sqlite_where=TAKING, postgresql_where=TAKING)
    op.create_table(
        "daemons",
        sa.Column("worker", sa.String(length=120), nullable=False),
        sa.Column("bundle_digest", sa.String(length=64), nullable=False),
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_daemons")),
    )
    op.create_table(
        "ranking_policy",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_ranking_policy_one_row")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_ranking_policy")),
    )
    activations = op.create_table(
        "activations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bundle_digest", sa.String(length=64), nullable=False),
        sa.Column("calibration", sa.String(length=80), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("undone_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activations")),
    )
    op.create_index(op.f("ix_activations_bundle_digest"), "activations", ["bundle_digest"])
    _enter_what_is_in_force(activations)
    op.drop_column("calibrations", "replaced")


@contextmanager
def _feedback_let_go() -> Iterator[None]:
    """SQLite makes a table anew to change a key of it: meanwhile no other table may name its rows."""
    tx, feedback = op.get_bind(), sa.table("feedback", sa.column("id"), sa.column("score"))
    named = tx.execute(sa.select(feedback).where(feedback.c.score.is_not(None))).all()
    tx.execute(feedback.update().values(score=None))
    yield
    for row in named:
        tx.execute(feedback.update().where(feedback.c.id == row.id).values(score=row.score))


def _enter_what_is_in_force(activations: sa.Table) -> None:
    """What each bundle would go back to, as far as it was kept: along `replaced`, each calibration once."""
    tx = op.get_bind()
    query = sa.text("SELECT id, bundle_digest, replaced, state, activated_at, activated_by FROM calibrations")
    rows = {row.id: row for row in tx.execute(query)}
    now = int(datetime.now(UTC).timestamp() * 1e6)
    for row in [row for row in rows.values() if row.state == "ACTIVE"]:
        chain, seen = [row], {row.id}
        while (before := rows.get(chain[-1].replaced)) is not None and before.id not in seen:
            seen.add(before.id)
            chain.append(before)
        for one in reversed(chain):
            at, by = one.activated_at or now, one.activated_by or ""
            tx.execute(activations.insert().values(bundle_digest=one.bundle_digest, calibration=one.id, at=at, by=by))


def _keep_newest_scores() -> None:
    """Of scores that differ by the pixels alone the newest stays; what was said of an older one is said of none."""
    scores = sa.table("scores", sa.column("id"), *(sa.column(name) for name in MADE))
    feedback = sa.table("feedback", sa.column("score"))
    newest = sa.select(sa.func.max(scores.c.id)).group_by(*(scores.c[name] for name in MADE))
    op.execute(feedback.update().where(feedback.c.score.not_in(newest)).values(score=None))
    op.execute(scores.delete().where(scores.c.id.not_in(newest)))


def downgrade() -> None:
    op.add_column("calibrations", sa.Column("replaced", sa.String(length=80), nullable=True))
    op.drop_table("activations")
    op.drop_table("ranking_policy")
    op.drop_table("daemons")
    op.drop_table("differing_copies")
    op.drop_column("results", "data_deleted_at")
    op.drop_index("ix_instances_file_fault", table_name="instances")
    op.drop_column("instances", "file_fault")
    op.drop_column("instances", "entry")
    op.drop_column("instances", "receipt_at")
    op.drop_column("instances", "pixels_version")
    _keep_newest_scores()
    with _feedback_let_go(), op.batch_alter_table("scores") as batch:
        batch.drop_constraint("uq_scores_made", type_="unique")
        batch.drop_column("pixels_version")
        batch.create_unique_constraint("uq_scores_made", MADE)
    op.drop_index("ix_studies_held", table_name="studies")
    op.drop_column("studies", "listed_since")
    op.drop_column("studies", "entries")
    op.drop_column("studies", "issuer")
    op.drop_index("ix_studies_identity", table_name="studies")
    op.drop_column("studies", "identity")
    op.drop_column("studies", "held")
