"""Feedback, conversations, standing instructions and personal adapters."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "conversation_turn",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("assistant_id", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("chat_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["assistant_id"],
            ["assistant.id"],
            name=op.f("fk_conversation_turn_assistant_id_assistant"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["key.id"],
            name=op.f("fk_conversation_turn_key_id_key"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversation_turn")),
    )
    with op.batch_alter_table("conversation_turn", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_conversation_turn_assistant_id"), ["assistant_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_conversation_turn_created_at"), ["created_at"], unique=False
        )

    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("assistant_id", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("completion_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "approved",
                "rejected",
                name="feedbackstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("question", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("corrected_answer", sa.String(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("question_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["question_id"],
            ["labelled_question.id"],
            name=op.f("fk_feedback_question_id_labelled_question"),
            ondelete="SET NULL",
        ),
        sa.UniqueConstraint("question_id", name=op.f("uq_feedback_question_id")),
        sa.ForeignKeyConstraint(
            ["assistant_id"],
            ["assistant.id"],
            name=op.f("fk_feedback_assistant_id_assistant"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["key_id"], ["key.id"], name=op.f("fk_feedback_key_id_key"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_feedback_assistant_id"), ["assistant_id"], unique=False
        )

    op.create_table(
        "personal_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("assistant_id", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("retriever", "generator", name="personalkind", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum("served", "kept", "worse", name="personalstate", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("shared", sa.String(), nullable=True),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.LargeBinary(), nullable=False),
        sa.Column("examples", sa.Integer(), nullable=False),
        sa.Column("before", sa.Double(), nullable=True),
        sa.Column("after", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["assistant_id"],
            ["assistant.id"],
            name=op.f("fk_personal_version_assistant_id_assistant"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_personal_version")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("personal_version", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_personal_version_assistant_id"), ["assistant_id"], unique=False
        )

    op.create_table(
        "hidden_heading",
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("heading", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["document.id"],
            name=op.f("fk_hidden_heading_document_id_document"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("document_id", "heading", name=op.f("pk_hidden_heading")),
    )
    op.create_table(
        "personal_question",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("question_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["personal_version.id"],
            name=op.f("fk_personal_question_version_id_personal_version"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "question_id", name=op.f("pk_personal_question")),
    )
    with op.batch_alter_table("personal_question", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_personal_question_question_id"), ["question_id"], unique=False
        )

    op.create_table(
        "personal_source",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["personal_version.id"],
            name=op.f("fk_personal_source_version_id_personal_version"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("version_id", "document_id", name=op.f("pk_personal_source")),
    )
    with op.batch_alter_table("personal_source", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_personal_source_document_id"), ["document_id"], unique=False
        )

    op.create_table(
        "rated_passage",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("feedback_id", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("passage", sa.String(), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["document.id"],
            name=op.f("fk_rated_passage_document_id_document"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["feedback_id"],
            ["feedback.id"],
            name=op.f("fk_rated_passage_feedback_id_feedback"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rated_passage")),
    )
    with op.batch_alter_table("rated_passage", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_rated_passage_document_id"), ["document_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_rated_passage_feedback_id"), ["feedback_id"], unique=False
        )

    op.create_table(
        "turn_passage",
        sa.Column("turn_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("passage", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["document.id"],
            name=op.f("fk_turn_passage_document_id_document"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["turn_id"],
            ["conversation_turn.id"],
            name=op.f("fk_turn_passage_turn_id_conversation_turn"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("turn_id", "position", name=op.f("pk_turn_passage")),
    )
    with op.batch_alter_table("turn_passage", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_turn_passage_document_id"), ["document_id"], unique=False
        )

    # Columns are added in place: a table that is made anew is dropped first, and what hangs on its
    # rows goes with them.
    op.add_column(
        "assistant", sa.Column("instructions", sa.String(), nullable=False, server_default="")
    )
    op.add_column("assistant", sa.Column("conversation_days", sa.Integer(), nullable=True))
    op.add_column("assistant", sa.Column("personal_hours", sa.Integer(), nullable=True))
    op.add_column("key", sa.Column("instructions", sa.String(), nullable=False, server_default=""))
    op.add_column(
        "key",
        sa.Column("feedback_is_approved", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "labelled_question",
        sa.Column(
            "origin",
            sa.Enum("upload", "feedback", name="questionorigin", native_enum=False, length=16),
            nullable=False,
            server_default="upload",
        ),
    )
    op.add_column(
        "relevant_passage",
        sa.Column("is_relevant", sa.Boolean(), nullable=False, server_default=sa.true()),
    )


def downgrade() -> None:
    op.drop_column("relevant_passage", "is_relevant")
    op.drop_column("labelled_question", "origin")
    op.drop_column("key", "feedback_is_approved")
    op.drop_column("key", "instructions")
    op.drop_column("assistant", "personal_hours")
    op.drop_column("assistant", "conversation_days")
    op.drop_column("assistant", "instructions")
    with op.batch_alter_table("turn_passage", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_turn_passage_document_id"))

    op.drop_table("turn_passage")
    with op.batch_alter_table("rated_passage", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rated_passage_feedback_id"))
        batch_op.drop_index(batch_op.f("ix_rated_passage_document_id"))

    op.drop_table("rated_passage")
    with op.batch_alter_table("personal_source", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_personal_source_document_id"))

    op.drop_table("personal_source")
    with op.batch_alter_table("personal_question", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_personal_question_question_id"))

    op.drop_table("personal_question")
    op.drop_table("hidden_heading")
    with op.batch_alter_table("personal_version", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_personal_version_assistant_id"))

    op.drop_table("personal_version")
    with op.batch_alter_table("feedback", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_feedback_assistant_id"))

    op.drop_table("feedback")
    with op.batch_alter_table("conversation_turn", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_conversation_turn_created_at"))
        batch_op.drop_index(batch_op.f("ix_conversation_turn_assistant_id"))

    op.drop_table("conversation_turn")
