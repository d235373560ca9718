"""Runs an Asterisk of any size with a generated configuration in the lab's root, separate from the lab's servers."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pbx.settings import Connection
from tests.lab.servers import AMI_SECRET, Asterisk

ASTERISK_CONF = """[directories]
astetcdir = /etc/asterisk{suffix}
astmoddir = {modules}
astvarlibdir = /var/lib/asterisk{suffix}
astdbdir = /var/lib/asterisk{suffix}
astkeydir = /var/lib/asterisk{suffix}
astdatadir = /usr/share/asterisk
astspooldir = /var/spool/asterisk{suffix}
astrundir = /run/asterisk{suffix}
astlogdir = /var/log/asterisk{suffix}
"""
MANAGER_CONF = """[general]
enabled = yes
bindaddr = 127.0.0.1
port = {ami_port}
[notebook]
secret = {secret}
read = all
write = all
"""
PJSIP_CONF = """[udp]
type = transport
protocol = udp
bind = 127.0.0.1:{sip_port}
[phone](!)
type = endpoint
context = from-internal
disallow = all
allow = ulaw
[phone-aor](!)
type = aor
max_contacts = 1
"""
PHONE = """[{number}](phone)
aors = {number}
auth = {number}-auth
callerid = Zoë {number} <{number}>
[{number}-auth]
type = auth
auth_type = userpass
username = {number}
password = bench-{number}
[{number}](phone-aor)
"""
TRUNK = """[trunk-{number}](phone)
aors = trunk-{number}
[trunk-{number}]
type = aor
contact = sip:127.0.0.1:5399
"""


@dataclass(frozen=True)
class GeneratedPbx(Asterisk):
    """An Asterisk with generated extensions, trunks by address, and queues with members."""

    templates: tuple[str, ...] = ("common",)
    phones: int = 2
    trunks: int = 1
    queues: int = 1
    members: int = 2

    def connection(self) -> Connection:
        return Connection.model_validate(
            {"host": self.host, "ari_port": 1, "ami_port": self.ami_port}
            | {"ami_username": self.ami_username, "ami_password": self.ami_secret}
        )

    def configure(self) -> None:
        super().configure()
        values = {"suffix": self.suffix, "modules": self.substitutes()["MODULES"], "secret": AMI_SECRET}
        numbers = range(1001, 1001 + self.phones)
        phones = "".join(PHONE.format(number=number) for number in numbers)
        trunks = "".join(TRUNK.format(number=number) for number in range(1, self.trunks + 1))
        queues = ""
        for queue in range(self.queues):
            chosen = (numbers[(queue * self.members + member) % self.phones] for member in range(self.members))
            members = "".join(f"member => Local/{number}@agents/n,0,Agent {number}\n" for number in chosen)
            queues += f"[queue-{queue + 1:02}]\nstrategy = rrmemory\nservicelevel = 20\n{members}"
        files = {
            "asterisk.conf": ASTERISK_CONF.format(**values),
            "manager.conf": MANAGER_CONF.format(ami_port=self.ami_port, **values),
            "pjsip.conf": PJSIP_CONF.format(sip_port=self.sip_port) + phones + trunks,
            "queues.conf": f"[general]\n{queues}",
            "extensions.conf": "[from-internal]\n[agents]\nexten => _X.,1,Answer()\n same => n,Wait(60)\n",
        }
        for name, text in files.items():
            (self.etc / name).write_text(text)

    def remove(self) -> None:
        """Stop the PBX and delete its directories."""
        self.stop()
        run, library = self.root / f"run/asterisk{self.suffix}", self.root / f"var/lib/asterisk{self.suffix}"
        for directory in (self.etc, self.spool, self.logs, run, library):
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def generated_pbx(version: int, purpose: str, ami_port: int, **size: int) -> Iterator[GeneratedPbx]:
    """Run a generated PBX within the block. Its SIP port is one above its AMI port."""
    name = f"{purpose}-{version}"
    pbx = GeneratedPbx(name, version, ami_port, ami_port + 1, ami_port + 2, 27000, suffix=f"-{name}", **size)  # type: ignore[arg-type]
    pbx.remove()
    try:
        pbx.start()
        yield pbx
    finally:
        pbx.remove()
