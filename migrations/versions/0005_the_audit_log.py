"""What the audit log and the system page ask for are ranges of an index."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

AUDITED = sa.text(
    "kind NOT IN ('arrived', 'scored', 'placed', 'published', 'sent', 'late-instance', 'more-images', 'lease-ended', 'overdue')"
)


def upgrade() -> None:
    op.create_index("ix_events_audited", "events", ["at", "id"], sqlite_where=AUDITED, postgresql_where=AUDITED)
    op.create_index("ix_events_actor", "events", ["actor", "at", "id"], sqlite_where=AUDITED, postgresql_where=AUDITED)
    op.create_index("ix_notices_calling_ae", "notices", ["calling_ae", "at"])


def downgrade() -> None:
    op.drop_index("ix_notices_calling_ae", table_name="notices")
    op.drop_index("ix_events_actor", table_name="events")
    op.drop_index("ix_events_audited", table_name="events")
