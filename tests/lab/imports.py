"""What tests of imports stand on: an empty cache, and a PBX in it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from pbx.settings import load_settings
from pbx.store.connections import ActiveConnection
from pbx.store.engine import open_engine, writing
from pbx.store.models import PbxConnection, Subject
from tests.lab.server import LabServer


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = open_engine(load_settings())
    yield engine
    engine.dispose()


def active_at(engine: Engine, server: LabServer) -> ActiveConnection:
    """The server as the app's PBX, one of whose trunks has been seen."""
    connection = server.connection()
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host=connection.host, active=True))
        session.flush()
        session.add(Subject(connection_id=1, kind="trunk", name="carrier", tech="PJSIP"))
    return ActiveConnection(1, connection, saved=False)
