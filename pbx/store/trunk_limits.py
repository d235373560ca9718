"""How many lines each trunk has, as the analyst says: FreePBX keeps it to itself, and AMI doesn't tell it."""

from sqlalchemy import select
from sqlmodel import Session

from pbx.store.history_models import TrunkLimit
from pbx.store.models import Table

_L = Table.metadata.tables[str(TrunkLimit.__tablename__)].c


def trunk_lines(session: Session, connection_id: int) -> dict[str, int]:
    """The lines of each trunk of which that was said, by its name."""
    query = select(_L.trunk, _L.lines).where(_L.connection_id == connection_id)
    return {row.trunk: row.lines for row in session.connection().execute(query)}


def set_trunk_lines(session: Session, connection_id: int, trunk: str, lines: int | None) -> None:
    """Keep how many lines a trunk has; None: that is not known."""
    row = session.get(TrunkLimit, (connection_id, trunk))
    if lines is None:
        if row is not None:
            session.delete(row)
    else:
        session.merge(TrunkLimit(connection_id=connection_id, trunk=trunk, lines=lines))
