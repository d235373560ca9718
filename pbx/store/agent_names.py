"""The names of agents whom queue_log names by their interface.

Without `log_membername_as_agent` app_queue writes ADDMEMBER, REMOVEMEMBER, PAUSEALL and UNPAUSEALL with the member's
interface, and all else with its name (seen on 16 and 22): one agent would be two.
"""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import select
from sqlmodel import Session

from pbx.model.channels import peer_of
from pbx.store.models import Table
from pbx.store.snapshots import latest_snapshot

_S = Table.metadata.tables["subjects"].c


def agent_names(session: Session, connection_id: int) -> dict[str, str]:
    """Interface → member's name, as snapshots showed it; an interface with several names stays what it is.

    Of those several the newest snapshot's is taken where it shows one only: a telephone that somebody else took over.
    """
    query = select(_S.name, _S.label).where(_S.connection_id == connection_id, _S.kind == "member", _S.label > "")
    names = _gathered((interface, name) for interface, name in session.connection().execute(query))
    snapshot = latest_snapshot(session, connection_id)
    queues = snapshot.queues if snapshot else ()
    now = _gathered((member.interface, member.name) for queue in queues for member in queue.members)
    found = {interface: now.get(interface, set()) or names[interface] for interface in {*names, *now}}
    return {interface: min(one) for interface, one in found.items() if len(one) == 1 and one != {interface}}


def extension_names(session: Session, connection_id: int) -> dict[str, str]:
    """Return {extension: name of its queue member}; extensions with several members are left out."""
    names = _gathered(
        (peer_of(f"{interface}-"), name) for interface, name in agent_names(session, connection_id).items()
    )
    return {extension: min(one) for extension, one in names.items() if extension and len(one) == 1}


def _gathered(pairs: Iterable[tuple[str, str]]) -> defaultdict[str, set[str]]:
    names: defaultdict[str, set[str]] = defaultdict(set)
    for interface, name in pairs:
        if name:
            names[interface].add(name)
    return names
