"""A cache that tests of the sync fill."""

from pathlib import Path

from sqlmodel import select

from pbx.settings import Connection, Settings
from pbx.store.engine import open_engine, reading
from pbx.store.models import CallRow, RecordingRow
from pbx.store.pbx_connections import ActiveConnection, active_connection


class SyncedCache:
    """The cache of one PBX, in a directory of its own."""

    def __init__(self, connection: Connection, data: Path) -> None:
        self.settings = Settings(
            _env_file=None,
            freepbx_host=connection.host,
            freepbx_ari_port=connection.ari_port,
            freepbx_ari_username=connection.ari_username,
            freepbx_ari_password=connection.ari_password,
            pbx_data_dir=data,
        )
        self.engine = open_engine(self.settings)

    @property
    def active(self) -> ActiveConnection:
        active = active_connection(self.engine, self.settings)
        assert active is not None
        return active

    def rows(self) -> dict[str, RecordingRow]:
        with reading(self.engine) as session:
            return {row.name: row for row in session.exec(select(RecordingRow))}

    def calls(self) -> dict[str, CallRow]:
        with reading(self.engine) as session:
            return {row.linkedid: row for row in session.exec(select(CallRow))}
