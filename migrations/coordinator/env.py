"""Runs the coordinator's history on the connection that storage.coordinator_database hands over."""

from alembic import context

from storage.coordinator_tables import CoordinatorBase

with_connection = context.config.attributes["connection"]
context.configure(
    connection=with_connection, target_metadata=CoordinatorBase.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
