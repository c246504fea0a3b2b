"""Alembic runs the revisions on the connection that prioritizer hands it."""

from alembic import context

from prioritizer.db.schema.every_table import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
