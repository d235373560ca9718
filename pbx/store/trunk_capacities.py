"""The capacity of trunks in concurrent calls, entered by the analyst: AMI doesn't report it."""

from sqlalchemy import select
from sqlmodel import Session

from pbx.store.models import Table, TrunkCapacity

_capacities = Table.metadata.tables[str(TrunkCapacity.__tablename__)].c


def trunk_capacities(session: Session, connection_id: int) -> dict[str, int]:
    """Return {trunk: concurrent calls} for the trunks with a known capacity."""
    query = select(_capacities.trunk, _capacities.channels).where(_capacities.connection_id == connection_id)
    return {row.trunk: row.channels for row in session.connection().execute(query)}


def set_trunk_capacity(session: Session, connection_id: int, trunk: str, channels: int | None) -> None:
    """Save a trunk's capacity in concurrent calls; None deletes it."""
    row = session.get(TrunkCapacity, (connection_id, trunk))
    if channels is None:
        if row is not None:
            session.delete(row)
    else:
        session.merge(TrunkCapacity(connection_id=connection_id, trunk=trunk, channels=channels))
