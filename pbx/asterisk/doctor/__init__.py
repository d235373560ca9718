"""The connection check: from the PBX's name to a recording in hand, each step with its finding and what fixes it.

step.py   a step, and how steps that stand on one another are run
line.py   name and ports: what is there before anybody speaks
ami.py    the manager interface: TLS, greeting, login, rights, versions
ari.py    the REST interface: TLS, login, the recordings
advice.py the lines that fix a PBX
"""

from collections.abc import Iterator

from pbx.asterisk.doctor.ami import AmiCheck
from pbx.asterisk.doctor.ari import AriCheck
from pbx.asterisk.doctor.network import NameCheck
from pbx.asterisk.doctor.step import CheckStep, run
from pbx.settings import Connection

__all__ = ["CheckStep", "check_connection"]


def check_connection(connection: Connection) -> Iterator[CheckStep]:
    """Check a PBX step by step, AMI and then ARI; each step comes as soon as it is known.

    A step whose ground is missing is `skipped` and says why; all others run. Nothing is raised for what is found, and
    no secret is in what is told. A PBX that doesn't answer at all takes less than ten seconds.
    """
    name = NameCheck(connection.host)
    failed = yield from run(name.steps())
    with AmiCheck(connection, name.addresses) as ami:
        yield from run(ami.steps(), failed)
    with AriCheck(connection, name.addresses) as ari:
        yield from run(ari.steps(), failed)
