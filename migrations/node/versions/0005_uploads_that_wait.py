"""Uploads that wait are found by their state, and by an erasure of what they hold by their hash.

Those that wait during the migration have no hash yet.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("job_item", sa.Column("content_hash", sa.LargeBinary(), nullable=True))
    op.create_index("ix_job_item_state", "job_item", ["state"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_job_item_state", "job_item")
    op.drop_column("job_item", "content_hash")
