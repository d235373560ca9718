"""Import runs for tests. They fill the cache of a PBX that is never contacted."""

from typing import Any

from sqlalchemy import Engine

from pbx.imports.run import ImportRun
from pbx.settings import Connection
from pbx.store.pbx_connections import ActiveConnection


def import_run(engine: Engine, connection_id: int = 1, *, timezone: str = "", **options: Any) -> ImportRun:
    """An import run for a PBX in a time zone; `options` are those of ImportRun."""
    connection = Connection(host="pbx.invalid", ari_port=8088, ami_port=5038, timezone=timezone or None)
    return ImportRun(engine, ActiveConnection(connection_id, connection, saved=True), **options)
