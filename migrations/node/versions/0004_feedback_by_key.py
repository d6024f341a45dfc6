"""Feedback is looked for by the key that gave it, each time one gives more."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("ix_feedback_key_id", "feedback", ["key_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_feedback_key_id", "feedback")
