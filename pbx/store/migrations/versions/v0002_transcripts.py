"""Transcripts: the speech engine's queue, what it understood, the search index, and what the analyst adds."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from pbx.store.migrations.columns import flag, refer, text, time

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    extend_calls()
    make_queue()
    make_transcripts()
    make_search()
    make_notes()


def extend_calls() -> None:
    op.add_column("calls", sa.Column("transcription", sa.String, nullable=False, server_default="new"))
    op.drop_index("ix_calls_started", "calls")
    filters = ["queue", "direction", "state", "from_number", "to_number", "transcription"]
    op.create_index("ix_calls_started", "calls", ["connection_id", "started_at", "id", *filters])


def make_queue() -> None:
    op.create_table(
        "transcriptions",
        sa.Column("recording_id", sa.Integer, sa.ForeignKey("recordings.id"), primary_key=True),
        refer("connection_id", "connections.id"),
        text("state"),
        text("model"),
        text("asked_by"),
        flag("urgent"),
        time("started_at"),
        time("asked_at", null=False),
        time("begun_at"),
        time("ended_at"),
        text("worker"),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("done_s", sa.Float, nullable=False),
        sa.Column("total_s", sa.Float),
        sa.Column("took_s", sa.Float),
        text("reason"),
    )
    op.create_index("ix_transcriptions_state", "transcriptions", ["connection_id", "state", "urgent", "started_at"])
    op.create_index("ix_transcriptions_ended", "transcriptions", ["connection_id", "ended_at"])
    on = sa.text("state = 'transcribing'")
    op.create_index("ix_transcriptions_at_work", "transcriptions", ["worker"], sqlite_where=on, postgresql_where=on)
    op.create_table(
        "transcription_rules",
        sa.Column("connection_id", sa.Integer, sa.ForeignKey("connections.id"), primary_key=True),
        flag("automatic"),
        flag("paused"),
        sa.Column("min_duration_s", sa.Float),
        sa.Column("max_duration_s", sa.Float),
        sa.Column("queues", sa.JSON, nullable=False),
        sa.Column("directions", sa.JSON, nullable=False),
        text("hindrance"),
        time("retry_at"),
    )


def make_transcripts() -> None:
    op.create_table(
        "transcripts",
        sa.Column("id", sa.Integer, primary_key=True),
        refer("recording_id", "recordings.id"),
        text("engine"),
        text("model"),
        text("language"),
        text("audio_sha256"),
        flag("whole"),
        flag("current"),
        sa.Column("channels", sa.Integer, nullable=False),
        sa.Column("duration_s", sa.Float),
        sa.Column("voiced_s", sa.Float, nullable=False),
        sa.Column("done_s", sa.Float, nullable=False),
        time("made_at", null=False),
    )
    op.create_index("ix_transcripts_recording", "transcripts", ["recording_id", "current"])
    op.create_table(
        "segments",
        sa.Column("id", sa.Integer, primary_key=True),
        refer("transcript_id", "transcripts.id"),
        sa.Column("start_s", sa.Float, nullable=False),
        sa.Column("end_s", sa.Float, nullable=False),
        sa.Column("channel", sa.Integer, nullable=False),
        text("speaker"),
        text("text"),
        sa.Column("original_text", sa.String),
        sa.Column("confidence", sa.Float, nullable=False),
        text("flags"),
        sa.Column("words", sa.JSON, nullable=False),
        time("edited_at"),
    )
    op.create_index("ix_segments_transcript", "segments", ["transcript_id", "start_s"])
    op.create_table(
        "analyses",
        sa.Column("transcript_id", sa.Integer, sa.ForeignKey("transcripts.id"), primary_key=True),
        text("engine"),
        text("fallback_reason"),
        sa.Column("attempts", sa.Integer, nullable=False),
        time("made_at", null=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    fell_back = sa.text("fallback_reason <> ''")
    op.create_index("ix_analyses_waiting", "analyses", ["made_at"], sqlite_where=fell_back, postgresql_where=fell_back)


def make_search() -> None:
    """The index of what was said; its rows are written by pbx.store.search_index, which splits text into words first.

    The words come separated by spaces, which is what FTS5's simplest tokenizer splits at.
    """
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE said USING fts5("
            "caller, agent, other, caller_doubted, agent_doubted, other_doubted, tokenize='ascii')"
        )
        return
    op.create_table(
        "said",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        text("speaker"),
        flag("doubted"),
        sa.Column("words", TSVECTOR, nullable=False),
    )
    op.create_index("ix_said_words", "said", ["words"], postgresql_using="gin")


def make_notes() -> None:
    op.create_table(
        "call_notes",
        sa.Column("call_id", sa.Integer, sa.ForeignKey("calls.id"), primary_key=True),
        text("note"),
        sa.Column("rating", sa.Integer),
        time("updated_at", null=False),
    )
    op.create_table(
        "call_tags",
        sa.Column("call_id", sa.Integer, sa.ForeignKey("calls.id"), primary_key=True),
        sa.Column("tag", sa.String, primary_key=True),
    )
    op.create_index("ix_call_tags_tag", "call_tags", ["tag"])
    op.create_table(
        "topics",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("phrases", sa.JSON, nullable=False),
    )
