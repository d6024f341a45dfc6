"""Alembic histories, one for each database."""
