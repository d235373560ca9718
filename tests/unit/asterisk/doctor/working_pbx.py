"""A working PBX that replays captured bytes, and the results of its connection check. Tests add the faults."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pbx.asterisk.doctor import CheckStep, check_connection
from pbx.settings import Connection
from tests.unit.asterisk.ami import replay_server as ami_replay
from tests.unit.asterisk.ami.replay_server import ReplayServer, Session
from tests.unit.asterisk.ari import replay_server as ari_replay
from tests.unit.asterisk.ari.replay_server import PASSWORD, ReplayPbx, captured, wav

AMI_SECRET = "lab-ami-secret"
AMI_STEPS = ["AMI port open", "AMI greeting", "AMI login", "AMI permissions", "Asterisk version"]
ARI_STEPS = ["ARI port open", "ARI answers", "ARI login", "Recordings listed", "Recording downloads"]
OLD, NEW = (f"2026/11/21/out-5551234-1001-20261121-085{n}00-17952510{n}0.1" for n in (0, 5))


@dataclass(frozen=True)
class WorkingPbx:
    """The AMI and ARI servers of a PBX with one recording."""

    ami: ReplayServer
    ari: ReplayPbx

    def connection(self, **changes: object) -> Connection:
        """The settings that connect to both servers."""
        ami = {"ami_port": self.ami.port, "ami_username": "notebook", "ami_password": AMI_SECRET}
        return Connection.model_validate(self.ari.connection.model_dump() | ami | changes)


@contextmanager
def working_pbx(*scripts: Callable[[Session], None], version: int = 22, prefix: str = "") -> Iterator[WorkingPbx]:
    """Run a working PBX; the arguments are those of the AMI server's `replay`."""
    with ari_replay.replay() as ari, ami_replay.replay(*scripts, version=version, prefix=prefix) as ami:
        ari.answers["/ari/asterisk/info"] = captured("info", version)
        ari.recordings = {OLD: wav()}
        yield WorkingPbx(ami, ari)


def check_steps(connection: Connection) -> dict[str, CheckStep]:
    """Check the connection and return its steps by name.

    No step may contain a secret, and each failed step must have a fix.
    """
    steps = list(check_connection(connection))
    for step in steps:
        assert AMI_SECRET not in step.model_dump_json()
        assert PASSWORD not in step.model_dump_json()
        assert step.finding
        assert all(step.fix)
        assert step.fix or step.state != "failed", step
    return {step.name: step for step in steps}


def states(steps: dict[str, CheckStep]) -> dict[str, str]:
    return {name: step.state for name, step in steps.items()}


def only_failed(steps: dict[str, CheckStep], name: str, interface_steps: list[str]) -> CheckStep:
    """The only step that failed. The later steps of its interface were skipped, and all other steps passed."""
    after = interface_steps[interface_steps.index(name) + 1 :]
    others = {other: step.state for other, step in steps.items() if other != name and other not in after}
    assert set(others.values()) == {"ok"}, others
    assert {steps[other].state for other in after} <= {"skipped"}
    assert all(steps[other].finding == f"Skipped because “{name}” failed." for other in after)
    assert steps[name].state == "failed"
    return steps[name]
