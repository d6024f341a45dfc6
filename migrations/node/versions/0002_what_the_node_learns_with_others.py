"""Labelled questions, and the node's part in federations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "consent_policy",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("policy", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_policy")),
    )
    op.create_table(
        "membership",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("coordinator", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "active",
                "revoked",
                "left",
                name="membershipstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("population", sa.String(), nullable=True),
        sa.Column("roster", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership")),
        sa.UniqueConstraint("identity", name=op.f("uq_membership_identity")),
    )
    op.create_table(
        "confirmed_peer",
        sa.Column("membership_id", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("confirmed_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["membership_id"],
            ["membership.id"],
            name=op.f("fk_confirmed_peer_membership_id_membership"),
        ),
        sa.PrimaryKeyConstraint("membership_id", "identity", name=op.f("pk_confirmed_peer")),
    )
    op.create_table(
        "former_identity",
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("membership_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["membership_id"],
            ["membership.id"],
            name=op.f("fk_former_identity_membership_id_membership"),
        ),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_former_identity")),
    )
    with op.batch_alter_table("former_identity", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_former_identity_membership_id"), ["membership_id"], unique=False
        )

    op.create_table(
        "known_plan",
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("membership_id", sa.String(), nullable=False),
        sa.Column("federation", sa.String(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        sa.Column("refusals", sa.String(), nullable=False),
        sa.Column("seen_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["membership_id"],
            ["membership.id"],
            name=op.f("fk_known_plan_membership_id_membership"),
        ),
        sa.PrimaryKeyConstraint("plan_hash", name=op.f("pk_known_plan")),
    )
    with op.batch_alter_table("known_plan", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_known_plan_membership_id"), ["membership_id"], unique=False
        )

    op.create_table(
        "labelled_question",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("assistant_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["assistant_id"],
            ["assistant.id"],
            name=op.f("fk_labelled_question_assistant_id_assistant"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labelled_question")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("labelled_question", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_labelled_question_assistant_id"), ["assistant_id"], unique=False
        )

    op.create_table(
        "contribution",
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("federation", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "enlisted", "sent", "finished", "left", name="outcome", native_enum=False, length=16
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("sent_at", sa.Integer(), nullable=True),
        sa.Column("sent_bytes", sa.Integer(), nullable=True),
        sa.Column("sent_hash", sa.String(), nullable=True),
        sa.Column("receipt", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["plan_hash"],
            ["known_plan.plan_hash"],
            name=op.f("fk_contribution_plan_hash_known_plan"),
        ),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_contribution")),
    )
    with op.batch_alter_table("contribution", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_contribution_plan_hash"), ["plan_hash"], unique=False)

    op.create_table(
        "relevant_passage",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("question_id", sa.Integer(), nullable=False),
        sa.Column("document_id", sa.String(), nullable=False),
        sa.Column("passage", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["document.id"],
            name=op.f("fk_relevant_passage_document_id_document"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["question_id"],
            ["labelled_question.id"],
            name=op.f("fk_relevant_passage_question_id_labelled_question"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_relevant_passage")),
    )
    with op.batch_alter_table("relevant_passage", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_relevant_passage_document_id"), ["document_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_relevant_passage_question_id"), ["question_id"], unique=False
        )

    op.create_table(
        "shared_version",
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("parameters", sa.LargeBinary(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "served",
                "harmful",
                "untested",
                "refused",
                "retired",
                name="versionstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("examples", sa.Integer(), nullable=False),
        sa.Column("before", sa.Double(), nullable=True),
        sa.Column("after", sa.Double(), nullable=True),
        sa.Column("tried_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_hash"],
            ["known_plan.plan_hash"],
            name=op.f("fk_shared_version_plan_hash_known_plan"),
        ),
        sa.PrimaryKeyConstraint("plan_hash", "number", name=op.f("pk_shared_version")),
    )


def downgrade() -> None:
    op.drop_table("shared_version")
    with op.batch_alter_table("relevant_passage", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_relevant_passage_question_id"))
        batch_op.drop_index(batch_op.f("ix_relevant_passage_document_id"))

    op.drop_table("relevant_passage")
    with op.batch_alter_table("contribution", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_contribution_plan_hash"))

    op.drop_table("contribution")
    with op.batch_alter_table("labelled_question", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_labelled_question_assistant_id"))

    op.drop_table("labelled_question")
    with op.batch_alter_table("known_plan", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_known_plan_membership_id"))

    op.drop_table("known_plan")
    with op.batch_alter_table("former_identity", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_former_identity_membership_id"))

    op.drop_table("former_identity")
    op.drop_table("confirmed_peer")
    op.drop_table("membership")
    op.drop_table("consent_policy")
