"""Makes a server of the lab the active PBX of an empty cache, for tests of imports."""

from sqlalchemy import Engine

from pbx.store.engine import writing
from pbx.store.models import PbxConnection, SampledSubject
from pbx.store.pbx_connections import ActiveConnection
from tests.lab.servers import LabServer


def add_active_connection(engine: Engine, server: LabServer) -> ActiveConnection:
    """Add the server as the app's active PBX with one known trunk, `carrier`, and return its connection."""
    connection = server.connection()
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host=connection.host, active=True))
        session.flush()
        session.add(SampledSubject(connection_id=1, kind="trunk", name="carrier", tech="PJSIP"))
    return ActiveConnection(1, connection, saved=False)
