"""Rulings: what people decide on the site's rules, above the configuration."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ACTIVE = sa.text("state = 'ACTIVE'")


def upgrade() -> None:
    op.create_table(
        "site_rules",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("change", sa.Integer(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_site_rules_one_row")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_site_rules")),
    )
    op.create_table(
        "rulings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("effect", sa.JSON(), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("activated_at", sa.BigInteger(), nullable=True),
        sa.Column("activated_by", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("replaced", sa.Integer(), nullable=True),
        sa.CheckConstraint("state IN ('CANDIDATE', 'ACTIVE', 'ENDED', 'REJECTED')", name=op.f("ck_rulings_state_known")),
        sa.ForeignKeyConstraint(["replaced"], ["rulings.id"], name=op.f("fk_rulings_replaced")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rulings")),
    )
    op.create_index("uq_rulings_active", "rulings", ["state"], unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE)


def downgrade() -> None:
    op.drop_table("rulings")
    op.drop_table("site_rules")
