"""Find the names of agents that queue_log identifies by their interface.

Without `log_membername_as_agent`, app_queue writes the member's interface in ADDMEMBER, REMOVEMEMBER, PAUSEALL and
UNPAUSEALL, and the member's name in all other events (seen on Asterisk 16 and 22). Without the names from here, one
agent would appear as two.
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
    """Return {interface: member's name} from the snapshots of a PBX.

    The newest snapshot's name wins over earlier ones, because a phone can be passed on to another agent. An interface
    with several names is left out.
    """
    query = select(_S.name, _S.label).where(_S.connection_id == connection_id, _S.kind == "member", _S.label > "")
    names = _names_by_key((interface, name) for interface, name in session.connection().execute(query))
    snapshot = latest_snapshot(session, connection_id)
    queues = snapshot.queues if snapshot else ()
    now = _names_by_key((member.interface, member.name) for queue in queues for member in queue.members)
    found = {interface: now.get(interface, set()) or names[interface] for interface in {*names, *now}}
    return {interface: min(one) for interface, one in found.items() if len(one) == 1 and one != {interface}}


def extension_names(session: Session, connection_id: int) -> dict[str, str]:
    """Return {extension: name of its queue member}. An extension with several members is left out."""
    names = _names_by_key(
        (peer_of(f"{interface}-"), name) for interface, name in agent_names(session, connection_id).items()
    )
    return {extension: min(one) for extension, one in names.items() if extension and len(one) == 1}


def _names_by_key(pairs: Iterable[tuple[str, str]]) -> defaultdict[str, set[str]]:
    names: defaultdict[str, set[str]] = defaultdict(set)
    for interface, name in pairs:
        if name:
            names[interface].add(name)
    return names
