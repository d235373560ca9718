"""The basis of tests of imports: a server of the lab as the PBX of an empty cache."""

from sqlalchemy import Engine

from pbx.store.engine import writing
from pbx.store.models import PbxConnection, SampledSubject
from pbx.store.pbx_connections import ActiveConnection
from tests.lab.servers import LabServer


def add_active_connection(engine: Engine, server: LabServer) -> ActiveConnection:
    """The server as the app's PBX, one of whose trunks has been seen."""
    connection = server.connection()
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host=connection.host, active=True))
        session.flush()
        session.add(SampledSubject(connection_id=1, kind="trunk", name="carrier", tech="PJSIP"))
    return ActiveConnection(1, connection, saved=False)
