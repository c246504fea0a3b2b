"""How far every image lies from the training data, and by which bundle that was measured."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

LEFT_OUT = sa.text("state = 'INELIGIBLE' AND reason = 'out_of_distribution'")
SCORED_BEYOND = sa.text("state = 'SCORED' AND out_of_distribution > 1")


def upgrade() -> None:
    op.add_column("instances", sa.Column("out_of_distribution", sa.Float(), nullable=True))
    op.add_column("instances", sa.Column("measured_by", sa.String(length=64), nullable=False, server_default=""))
    for name, where in (("ix_instances_left_out", LEFT_OUT), ("ix_instances_scored_beyond", SCORED_BEYOND)):
        op.create_index(name, "instances", ["received_at"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name in ("ix_instances_scored_beyond", "ix_instances_left_out"):
        op.drop_index(name, table_name="instances")
    op.drop_column("instances", "measured_by")
    op.drop_column("instances", "out_of_distribution")
