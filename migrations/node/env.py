"""Runs the node's history on the connection that storage.database hands over."""

from alembic import context

# The other two are imported for the tables that they add.
from storage import example_tables, membership_tables, node_tables  # noqa: F401

with_connection = context.config.attributes["connection"]
metadata = node_tables.Base.metadata
context.configure(connection=with_connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
