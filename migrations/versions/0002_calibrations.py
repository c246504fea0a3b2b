"""Calibrations of the site, and which activation made a score."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OLD = "uq_scores_sop_instance_uid_bundle_digest_calibration_id_preprocessing_id_engine_precision"
MADE = ["sop_instance_uid", "bundle_digest", "calibration_id", "preprocessing_id", "engine", "precision"]
ACTIVE = sa.text("state = 'ACTIVE'")


def old_key() -> str:
    """The first revision's name of the key, as the database keeps it: Postgres cuts names at 63 characters."""
    found = [key for key in sa.inspect(op.get_bind()).get_unique_constraints("scores") if sorted(key["column_names"]) == sorted(MADE)]
    return str(found[0]["name"]) if found and found[0]["name"] else OLD


def upgrade() -> None:
    with op.batch_alter_table("scores") as batch:
        batch.add_column(sa.Column("activation", sa.Integer(), nullable=False, server_default="0"))
        batch.drop_constraint(old_key(), type_="unique")
        batch.create_unique_constraint("uq_scores_made", [*MADE, "activation"])
    op.create_table(
        "bundles",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("activation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_bundles")),
    )
    op.create_table(
        "calibrations",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("bundle_digest", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=32), nullable=False),
        sa.Column("verdict_said", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("activated_by", sa.Text(), nullable=True),
        sa.Column("activation", sa.Integer(), nullable=True),
        sa.Column("replaced", sa.String(length=80), nullable=True),
        sa.CheckConstraint("state IN ('CANDIDATE', 'ACTIVE', 'RETIRED', 'REJECTED')", name=op.f("ck_calibrations_state_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibrations")),
    )
    op.create_index(op.f("ix_calibrations_bundle_digest"), "calibrations", ["bundle_digest"], unique=False)
    op.create_index("uq_calibrations_active", "calibrations", ["bundle_digest"], unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE)


def downgrade() -> None:
    op.drop_table("calibrations")
    op.drop_table("bundles")
    # Of scores that differ by their activation alone the newest stays.
    scores = sa.table("scores", sa.column("id"), *(sa.column(name) for name in MADE))
    newest = sa.select(sa.func.max(scores.c.id)).group_by(*(scores.c[name] for name in MADE))
    op.execute(scores.delete().where(scores.c.id.not_in(newest)))
    with op.batch_alter_table("scores") as batch:
        batch.drop_constraint("uq_scores_made", type_="unique")
        batch.drop_column("activation")
        batch.create_unique_constraint(op.f(OLD), MADE)
