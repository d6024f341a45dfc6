"""Runs the node's history on the connection that storage.database hands over."""

from alembic import context

from storage.node_tables import Base

with_connection = context.config.attributes["connection"]
context.configure(connection=with_connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
