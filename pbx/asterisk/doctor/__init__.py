"""The connection check: looks up the host, logs in to AMI and ARI, and downloads a recording.

Each step reports what it found and how to fix it.

step.py     one step, and how a list of steps is run
network.py  host name and ports
ami.py      the manager interface: TLS, greeting, login, rights, version
ari.py      the REST interface: TLS, login, list of recordings, download
advice.py   the fixes, with the lines to enter on the PBX
"""

from collections.abc import Iterator

from pbx.asterisk.doctor.ami import AmiCheck
from pbx.asterisk.doctor.ari import AriCheck
from pbx.asterisk.doctor.network import NameCheck
from pbx.asterisk.doctor.step import CheckStep, run
from pbx.settings import Connection

__all__ = ["CheckStep", "check_connection"]


def check_connection(connection: Connection) -> Iterator[CheckStep]:
    """Check the connection to a PBX, first AMI and then ARI, and yield each step as soon as it has finished.

    A step that needs an earlier, failed step is `skipped` and gives the reason; all others run. Failures are results,
    never exceptions, and no result contains a password. With a PBX that doesn't answer, the check takes less than ten
    seconds.
    """
    name = NameCheck(connection.host)
    failed = yield from run(name.steps())
    with AmiCheck(connection, name.addresses) as ami:
        yield from run(ami.steps(), failed)
    with AriCheck(connection, name.addresses) as ari:
        yield from run(ari.steps(), failed)
