"""Table and column names that need no explanation."""

from alembic import op
from sqlalchemy import text

revision = "0014"
down_revision = "0013"

_TABLES = {
    "watch_spans": "listening_spans",
    "import_marks": "import_cursors",
    "trunk_limits": "trunk_capacities",
    "said": "segment_index",
}
# By the new name of the table, in this order: what a name is given to must have lost it before.
_COLUMNS = {
    "connections": {"history_url_encrypted": "import_url_encrypted", "history_every": "import_schedule"},
    "transcriptions": {
        "asked_by": "requested_by",
        "asked_at": "requested_at",
        "started_at": "recorded_at",
        "begun_at": "started_at",
        "reason": "error",
    },
    "transcription_rules": {"hindrance": "blocked_reason"},
    "transcripts": {"whole": "complete", "voiced_s": "speech_s", "made_at": "created_at"},
    "analyses": {"made_at": "created_at"},
    "snapshots": {"not_ok": "incomplete_parts"},
    "jobs": {"asked_by": "requested_by", "asked_at": "requested_at"},
    "listening_spans": {"from_at": "started_at", "until_at": "listened_until", "ended_by": "end_reason"},
    "import_cursors": {"bad": "bad_rows", "faults": "errors"},
    "counter_resets": {"what": "description"},
    "alerts": {
        "begun_at": "started_at",
        "about": "description",
        "told_begin": "start_sent",
        "told_end": "end_sent",
        "unsent": "pending_targets",
        "failure": "send_error",
    },
    "trunk_capacities": {"lines": "channels"},
}


def upgrade() -> None:
    for old, new in _TABLES.items():
        op.rename_table(old, new)
    for table, columns in _COLUMNS.items():
        for old, new in columns.items():
            op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    _rename_indexes()
    op.execute("UPDATE jobs SET kind = 'make_playable' WHERE kind = 'prepare'")
    op.execute("UPDATE jobs SET requested_by = 'listener' WHERE requested_by = 'watch'")


def _rename_indexes() -> None:
    """SQLite can't rename an index."""
    op.drop_index("ix_watch_spans", "listening_spans")
    op.create_index("ix_listening_spans", "listening_spans", ["connection_id", "started_at"])
    op.drop_index("ix_transcriptions_at_work", "transcriptions")
    _make_partial_index("ix_transcriptions_running", "transcriptions", "worker", "state = 'transcribing'")
    op.drop_index("ix_analyses_waiting", "analyses")
    _make_partial_index("ix_analyses_fallback", "analyses", "created_at", "fallback_reason <> ''")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX ix_said_words RENAME TO ix_segment_index_words")


def _make_partial_index(name: str, table: str, column: str, condition: str) -> None:
    where = text(condition)
    op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)
