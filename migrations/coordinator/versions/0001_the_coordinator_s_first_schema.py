"""The coordinator's first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "blob",
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_blob")),
    )
    op.create_table(
        "population",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("roster_version", INTEGER, nullable=False),
        sa.Column("roster", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_population")),
    )
    op.create_table(
        "staff_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column(
            "role",
            sa.Enum("admin", "auditor", name="role", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("revoked_at", INTEGER, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_staff_key")),
    )
    op.create_table(
        "budget_event",
        sa.Column("population", sa.String(), nullable=False),
        sa.Column("position", INTEGER, nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["population"], ["population.name"], name=op.f("fk_budget_event_population_population")
        ),
        sa.PrimaryKeyConstraint("population", "position", name=op.f("pk_budget_event")),
    )
    op.create_table(
        "federation",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("population", sa.String(), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        sa.Column("plan_hash", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "created",
                "running",
                "paused",
                "stopped",
                "finished",
                name="federationstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("next_round_at", sa.Double(), nullable=True),
        sa.Column("promoted", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(
            ["population"], ["population.name"], name=op.f("fk_federation_population_population")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_federation")),
        sa.UniqueConstraint("plan_hash", name=op.f("uq_federation_plan_hash")),
    )
    op.create_index(op.f("ix_federation_population"), "federation", ["population"], unique=False)
    op.create_table(
        "ledger_line",
        sa.Column("population", sa.String(), nullable=False),
        sa.Column("sequence", INTEGER, nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["population"], ["population.name"], name=op.f("fk_ledger_line_population_population")
        ),
        sa.PrimaryKeyConstraint("population", "sequence", name=op.f("pk_ledger_line")),
    )
    op.create_table(
        "participant",
        sa.Column("id", INTEGER, nullable=False),
        sa.Column("population", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "pending",
                "approved",
                "revoked",
                name="participantstate",
                native_enum=False,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("last_seen_at", INTEGER, nullable=True),
        sa.ForeignKeyConstraint(
            ["population"], ["population.name"], name=op.f("fk_participant_population_population")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_participant")),
        sa.UniqueConstraint("identity", name=op.f("uq_participant_identity")),
        sa.UniqueConstraint("population", "name", name=op.f("uq_participant_population_name")),
    )
    op.create_index(op.f("ix_participant_population"), "participant", ["population"], unique=False)
    op.create_table(
        "enrolment",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("population", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.Column("expires_at", INTEGER, nullable=False),
        sa.Column("used_by", INTEGER, nullable=True),
        sa.ForeignKeyConstraint(
            ["population"], ["population.name"], name=op.f("fk_enrolment_population_population")
        ),
        sa.ForeignKeyConstraint(
            ["used_by"], ["participant.id"], name=op.f("fk_enrolment_used_by_participant")
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_enrolment")),
    )
    op.create_table(
        "old_identity",
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("participant_id", INTEGER, nullable=False),
        sa.Column("rotated_at", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.id"],
            name=op.f("fk_old_identity_participant_id_participant"),
        ),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_old_identity")),
    )
    op.create_index(
        op.f("ix_old_identity_participant_id"), "old_identity", ["participant_id"], unique=False
    )
    op.create_table(
        "participant_session",
        sa.Column("challenge", sa.String(), nullable=False),
        sa.Column("participant_id", INTEGER, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.id"],
            name=op.f("fk_participant_session_participant_id_participant"),
        ),
        sa.PrimaryKeyConstraint("challenge", name=op.f("pk_participant_session")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_participant_session_token_hash")),
    )
    op.create_index(
        op.f("ix_participant_session_participant_id"),
        "participant_session",
        ["participant_id"],
        unique=False,
    )
    op.create_table(
        "round",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("federation", sa.String(), nullable=False),
        sa.Column("number", INTEGER, nullable=False),
        sa.Column("slot", INTEGER, nullable=False),
        sa.Column("revision", INTEGER, nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("announcement", sa.LargeBinary(), nullable=False),
        sa.Column("invitation", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.LargeBinary(), nullable=True),
        sa.Column("statement", sa.LargeBinary(), nullable=True),
        sa.Column("survivors", INTEGER, nullable=True),
        sa.Column("joined", INTEGER, nullable=True),
        sa.ForeignKeyConstraint(
            ["federation"], ["federation.name"], name=op.f("fk_round_federation_federation")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_round")),
        sa.UniqueConstraint("federation", "number", name=op.f("uq_round_federation_number")),
    )
    op.create_index(op.f("ix_round_ended_at"), "round", ["ended_at"], unique=False)
    op.create_table(
        "version",
        sa.Column("federation", sa.String(), nullable=False),
        sa.Column("number", INTEGER, nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("parameters_hash", sa.String(), nullable=False),
        sa.Column("parameters", sa.LargeBinary(), nullable=False),
        sa.Column("moments", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", INTEGER, nullable=False),
        sa.ForeignKeyConstraint(
            ["federation"], ["federation.name"], name=op.f("fk_version_federation_federation")
        ),
        sa.PrimaryKeyConstraint("federation", "number", name=op.f("pk_version")),
    )
    op.create_table(
        "message",
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("participant_id", INTEGER, nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("payload_hash", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.id"],
            name=op.f("fk_message_participant_id_participant"),
        ),
        sa.ForeignKeyConstraint(["round_id"], ["round.id"], name=op.f("fk_message_round_id_round")),
        sa.PrimaryKeyConstraint("round_id", "stage", "participant_id", name=op.f("pk_message")),
    )
    op.create_index(
        "ix_message_participant_id_stage", "message", ["participant_id", "stage"], unique=False
    )
    op.create_table(
        "outgoing",
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("participant_id", INTEGER, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.id"],
            name=op.f("fk_outgoing_participant_id_participant"),
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["round.id"], name=op.f("fk_outgoing_round_id_round")
        ),
        sa.PrimaryKeyConstraint("round_id", "stage", "participant_id", name=op.f("pk_outgoing")),
    )
    op.create_table(
        "receipt",
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("participant_id", INTEGER, nullable=False),
        sa.Column("receipt", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["participant_id"],
            ["participant.id"],
            name=op.f("fk_receipt_participant_id_participant"),
        ),
        sa.ForeignKeyConstraint(["round_id"], ["round.id"], name=op.f("fk_receipt_round_id_round")),
        sa.PrimaryKeyConstraint("round_id", "participant_id", name=op.f("pk_receipt")),
    )


def downgrade() -> None:
    for table in (
        "receipt",
        "outgoing",
        "message",
        "version",
        "round",
        "participant_session",
        "old_identity",
        "enrolment",
        "participant",
        "ledger_line",
        "federation",
        "budget_event",
        "staff_key",
        "population",
        "blob",
    ):
        op.drop_table(table)
