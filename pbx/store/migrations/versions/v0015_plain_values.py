"""Stored values that need no explanation: sources, kinds of packs, and the results of imports."""

import re
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_PACK_KINDS = {"changes": "agent_events", "talks": "conversations", "looks": "trunk_samples"}
_RESULT_KEYS = {"bad": "unreadable", "faults": "errors", "changes": "agent_events"}


def upgrade() -> None:
    op.execute("ALTER TABLE import_cursors RENAME COLUMN bad_rows TO unreadable")
    for table in ("call_legs", "queue_visits"):
        op.execute(f"UPDATE {table} SET source = 'live' WHERE source = 'watch'")  # noqa: S608 - names above
    _rename_in_triggers()
    for old, new in _PACK_KINDS.items():
        op.execute(f"UPDATE day_packs SET kind = '{new}' WHERE kind = '{old}'")  # noqa: S608 - names above
    _rename_in_results()


def _rename_in_triggers() -> None:
    """The triggers that drop packs name their kinds."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        triggers = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'forget_%'"
        for name, definition in connection.exec_driver_sql(triggers).all():
            op.execute(f"DROP TRIGGER {name}")
            op.execute(_with_new_kinds(definition))
        return
    functions = sa.text(
        "SELECT pg_get_functiondef(oid) FROM pg_proc"
        " WHERE proname LIKE 'forget_%' AND pronamespace = CAST(current_schema() AS regnamespace)"
    )
    for definition in connection.execute(functions).scalars().all():
        op.execute(_with_new_kinds(definition))


def _with_new_kinds(definition: str) -> str:
    return re.sub(rf"'({'|'.join(_PACK_KINDS)})'", lambda found: f"'{_PACK_KINDS[found[1]]}'", definition)


def _rename_in_results() -> None:
    connection, jobs = op.get_bind(), sa.table("jobs", sa.column("id"), sa.column("kind"), sa.column("result", sa.JSON))
    for job in connection.execute(sa.select(jobs).where(jobs.c.kind == "import")).all():
        result = _with_new_keys(job.result)
        connection.execute(sa.update(jobs).where(jobs.c.id == job.id).values(result=result))


def _with_new_keys(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result with its keys renamed, and those of its sources."""
    renamed = {_RESULT_KEYS.get(key, key): value for key, value in result.items()}
    if "sources" in renamed:
        renamed["sources"] = [_with_new_keys(source) for source in renamed["sources"]]
    return renamed
