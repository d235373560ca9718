"""The lab's servers: Asterisk 16 and 22 as PBXes, another Asterisk 22 as the carrier of both, and their phones."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
import subprocess
import wave
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.process import Process, is_alive, wait_until
from tests.lab.provision import LabError, lab_dir, require_made, root_dir, tail

if TYPE_CHECKING:
    from pbx.settings import Connection

UNUSED = (  # configuration files that are empty, because Asterisk logs errors without them
    "acl amd ccss cel cli_aliases confbridge features followme pjproject pjsip_notify pjsip_wizard res_parking "
    "stir_shaken udptl"
)
ETC = Path(__file__).parent / "etc"
CARRIER_SIP_PORT, CARRIER_IAX_PORT = 5560, 5569
AMI_SECRET, ARI_SECRET = "lab-ami-secret", "lab-ari-secret"
TRUNK_SECRET, PHONE_SECRET = "lab-trunk-secret", "lab-phone-secret"
PAUSED = {"Local/4001@agents/n": "Lunch", "Local/4002@agents/n": 'Back at 3 "o\'clock"', "Local/1002@from-queue/n": ""}
PHONE_PROMPTS = {
    "1001": ("demo-congrats", "demo-moreinfo"),
    "1002": ("demo-instruct", "demo-echotest"),
}  # the Asterisk prompts that each phone plays
ODD_MEMBER = 'Zoë "Zo" <O\'Brien> 日本'


@dataclass(frozen=True)
class Asterisk(Process):
    """One Asterisk process in its own root file system, bound to 127.0.0.1."""

    name: str
    version: int
    ami_port: int
    sip_port: int = 0
    iax_port: int = 0
    rtp_start: int = 0
    suffix: str = ""  # of its directories, because several share a root
    templates: tuple[str, ...] = ("common", "pbx")
    host: str = "127.0.0.1"
    ami_username: str = "notebook"
    ami_secret: str = AMI_SECRET

    @property
    def root(self) -> Path:
        return root_dir(self.version)

    @property
    def etc(self) -> Path:
        return self.root / f"etc/asterisk{self.suffix}"

    @property
    def spool(self) -> Path:
        return self.root / f"var/spool/asterisk{self.suffix}"

    @property
    def logs(self) -> Path:
        """The folder of the log `full` and, on a PBX, of `queue_log` and `cdr-csv/Master.csv`."""
        return self.root / f"var/log/asterisk{self.suffix}"

    @cached_property
    def program(self) -> list[str]:
        return ["chroot", str(self.root), "/usr/sbin/asterisk", "-n", "-C", f"/etc/asterisk{self.suffix}/asterisk.conf"]

    def is_mine(self, proc: Path) -> bool:
        words = (proc / "cmdline").read_bytes().split(b"\0")
        config = f"/etc/asterisk{self.suffix}/asterisk.conf".encode()
        return config in words and b"-f" in words and Path(os.readlink(proc / "root")) == self.root.resolve()

    def cli(self, command: str, deadline_s: float = 20) -> str:
        """Run an Asterisk CLI command and return its output. Raises LabError if Asterisk can't be reached."""
        run = [*self.program, "-rx", command]
        done = subprocess.run(run, capture_output=True, stdin=subprocess.DEVNULL, timeout=deadline_s, cwd="/")
        text = done.stdout.decode(errors="replace")
        if done.returncode:
            raise LabError(f"{self.name}: {command!r} failed: {text}{done.stderr.decode(errors='replace')}")
        return text

    def substitutes(self) -> dict[str, str]:
        modules = "/usr/lib/asterisk/modules"
        if not (self.root / modules.lstrip("/")).is_dir():
            modules = "/usr/lib/x86_64-linux-gnu/asterisk/modules"
        return {
            "VERSION": str(self.version),
            "LINE": f"pbx{self.version}",
            "MODULES": modules,
            "AMI_PORT": str(self.ami_port),
            "SIP_PORT": str(self.sip_port),
            "IAX_PORT": str(self.iax_port),
            "CARRIER_PORT": str(CARRIER_SIP_PORT),
            "CARRIER_IAX_PORT": str(CARRIER_IAX_PORT),
            "RTP_START": str(self.rtp_start),
            "RTP_END": str(self.rtp_start + 499),
        }

    def configure(self) -> None:
        """Replace the package's configuration with the lab's templates, and create the directories they name.

        Raises LabError unless the root is complete: directories created in a missing root would look like one.
        """
        require_made(self.version)
        shutil.rmtree(self.etc, ignore_errors=True)
        render([ETC / name for name in self.templates], self.etc, self.substitutes())
        for name in UNUSED.split():
            (self.etc / f"{name}.conf").touch()
        for directory in (self.spool, self.logs, self.root / f"run/asterisk{self.suffix}"):
            directory.mkdir(parents=True, exist_ok=True)
        (self.root / f"var/lib/asterisk{self.suffix}").mkdir(exist_ok=True)

    def start(self) -> None:
        """Configure and start it, unless it is running, and wait until it is fully booted."""
        if not self.running:
            self.configure()
            self.spawn([*self.program, "-f"])
        try:
            wait_until(f"{self.name} opens its manager port", self.greets)
            self.cli("core waitfullybooted", deadline_s=60)
            self.ready()
        except (LabError, subprocess.TimeoutExpired) as error:
            raise LabError(f"{error}\nThe end of {self.log}:\n{tail(self.log)}") from error

    def ready(self) -> None:
        """Wait until the server is in its documented state. Called when it is booted."""

    def greets(self) -> bool:
        """Whether its manager port sends the greeting."""
        try:
            with socket.create_connection((self.host, self.ami_port), timeout=2) as line:
                return line.recv(64).startswith(b"Asterisk Call Manager/")
        except OSError:
            return False

    def stop(self) -> None:
        """Stop it immediately. Does nothing if it isn't running."""
        pids = self.pids()
        if pids:
            with contextlib.suppress(LabError, subprocess.TimeoutExpired):
                self.cli("core stop now", deadline_s=5)
            with contextlib.suppress(LabError):
                wait_until(f"{self.name} ends", lambda: not any(map(is_alive, pids)), 5)
        self.kill()

    def restart(self) -> None:
        self.stop()
        self.start()


@dataclass(frozen=True)
class RecordingAsterisk(Asterisk):
    """An Asterisk with ARI and with recordings in FreePBX's layout."""

    http_port: int = 0

    @property
    def monitor(self) -> Path:
        """Where recordings are written: YYYY/MM/DD/name.wav."""
        return self.spool / "monitor"

    @property
    def recording(self) -> Path:
        """The directory that ARI lists: a symbolic link to `monitor`."""
        return self.spool / "recording"


@dataclass(frozen=True)
class LabServer(RecordingAsterisk):
    """A PBX with trunks, phones and agents."""

    timezone: str = "UTC"  # the PBX's time zone, which recording names use
    ari_username: str = "notebook"
    ari_secret: str = ARI_SECRET

    @property
    def ami_tls_port(self) -> int:
        return self.ami_port + 1

    @property
    def https_port(self) -> int:
        return self.http_port + 1

    @property
    def chan_sip_port(self) -> int:
        return self.sip_port + 1

    def connection(self, *, tls: bool = False) -> Connection:
        """The address and users of this server, for the clients of the `pbx` package."""
        from pbx.settings import Connection  # imported here because the lab itself runs without installed packages

        return Connection(
            host=self.host,
            ari_port=self.https_port if tls else self.http_port,
            ari_tls=tls,
            ari_username=self.ari_username,
            ari_password=self.ari_secret,
            ami_port=self.ami_tls_port if tls else self.ami_port,
            ami_tls=tls,
            ami_username=self.ami_username,
            ami_password=self.ami_secret,
            ca_file=lab_dir() / "ca.pem" if tls else None,
        )

    def substitutes(self) -> dict[str, str]:
        ports = {
            name: getattr(self, name.lower()) for name in ("AMI_TLS_PORT", "HTTP_PORT", "HTTPS_PORT", "CHAN_SIP_PORT")
        }
        return super().substitutes() | {name: str(port) for name, port in ports.items()}

    def configure(self) -> None:
        super().configure()
        (self.etc / "keys").mkdir()
        shutil.copy(lab_dir() / "server.pem", self.etc / "keys/server.pem")
        localtime = self.root / "etc/localtime"
        localtime.unlink(missing_ok=True)
        localtime.symlink_to(f"/usr/share/zoneinfo/{self.timezone}")
        self.monitor.mkdir(exist_ok=True)
        self.link_recordings()

    def link_recordings(self) -> None:
        """Make `recording` a link to `monitor`. ARI lists no recordings of FreePBX without it."""
        if self.recording.is_symlink():
            self.recording.unlink()
        elif self.recording.exists():
            shutil.rmtree(self.recording)
        self.recording.symlink_to("monitor")

    def ready(self) -> None:
        """Wait until trunks are in their documented state, then pause the agents of PAUSED and add ODD_MEMBER."""
        wait_until(f"{self.name}'s trunks settle", self.trunks_settled, 90)
        for member, reason in PAUSED.items():
            quoted = reason.replace('"', '\\"')
            self.cli(
                f'queue pause member {member} queue billing reason "{quoted}"'
                if reason
                else f"queue pause member {member} queue billing"
            )
        name = ODD_MEMBER.replace('"', '\\"')
        with contextlib.suppress(LabError):  # refused if the queue already has the member
            self.cli(f'queue add member Local/2004@agents/n to sales penalty 9 as "{name}"')

    def trunks_settled(self) -> bool:
        """Whether every trunk of each channel driver is in its documented state."""
        words = {"carrier": "Registered", "badcarrier": "Rejected"}
        registrations = self.cli("pjsip show registrations").splitlines()
        contacts = self.cli("pjsip show contacts").splitlines()
        registries = ["iax2 show registry", *(["sip show registry"] if self.version == 16 else [])]
        return (
            all(any(f" {name}/" in line and word in line for line in registrations) for name, word in words.items())
            and any("peer-down/" in line and "Unavail" in line for line in contacts)
            and all(" Registered" in self.cli(command) for command in registries)
        )

    def phones_registered(self) -> bool:
        """Whether 1001 and 1002 are registered and answer OPTIONS requests."""
        lines = self.cli("pjsip show contacts").splitlines()
        return all(any(f" {phone}/sip:" in line and " Avail " in line for line in lines) for phone in ("1001", "1002"))


@dataclass(frozen=True)
class Phones(Process):
    """One baresip process that registers 1001 and 1002 at both PBXes and answers their calls."""

    name: str = "phones"
    sip_port: int = 5070
    rtp_start: int = 26000

    @property
    def directory(self) -> Path:
        return lab_dir() / "phones"

    def is_mine(self, proc: Path) -> bool:
        return str(self.directory).encode() in (proc / "cmdline").read_bytes().split(b"\0")

    def start(self) -> None:
        """Start them, unless they are running, and wait until both PBXes reach them."""
        if not self.running:
            modules = next(path for path in Path("/usr").glob("lib*/**/baresip/modules/account.so")).parent
            substitutes = {
                "PHONES_PORT": str(self.sip_port),
                "PHONES_DIR": str(self.directory),
                "MODULES": str(modules),
                "RTP_START": str(self.rtp_start),
                "RTP_END": str(self.rtp_start + 499),
            } | {f"SIP_PORT_{server.version}": str(server.sip_port) for server in SERVERS.values()}
            render([ETC / "phones"], self.directory, substitutes)
            for phone, sounds in PHONE_PROMPTS.items():
                write_prompts(self.directory / f"speech-{phone}.wav", sounds)
            self.spawn(["baresip", "-4", "-f", str(self.directory)])
        for server in SERVERS.values():
            try:
                wait_until(f"{server.name} reaches its phones", server.phones_registered, 60)
            except LabError as error:
                raise LabError(f"{error}\nThe end of {self.log}:\n{tail(self.log)}") from error

    def stop(self) -> None:
        self.kill()


def write_prompts(path: Path, sounds: tuple[str, ...], duration_s: float = 900) -> None:
    """Write a phone's microphone file: prompts, repeated because baresip hangs up when the file ends."""
    samples = bytearray()
    for sound in sounds:
        with wave.open(str(root_dir(22) / f"usr/share/asterisk/sounds/en_US_f_Allison/{sound}.wav")) as file:
            samples += file.readframes(file.getnframes())
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(samples) * math.ceil(duration_s * 16000 / len(samples)))


def render(sources: list[Path], target: Path, substitutes: dict[str, str]) -> None:
    """Write every template of `sources` to `target`, with each `@NAME@` replaced by its value."""
    target.mkdir(parents=True, exist_ok=True)
    for template in (path for source in sources for path in source.iterdir()):
        text = template.read_text()
        for name, value in substitutes.items():
            text = text.replace(f"@{name}@", value)
        (target / template.name).write_text(text)


SERVERS = {
    16: LabServer(
        "asterisk-16",
        16,
        5138,
        5160,
        5169,
        16000,
        "",
        ("common", "pbx"),
        http_port=8188,
        timezone="Asia/Kolkata",
    ),
    22: LabServer(
        "asterisk-22",
        22,
        5238,
        5260,
        5269,
        22000,
        "",
        ("common", "pbx"),
        http_port=8288,
    ),
}
CARRIER = Asterisk("carrier", 22, 5538, CARRIER_SIP_PORT, CARRIER_IAX_PORT, 24000, "-carrier", ("common", "carrier"))
PHONES = Phones()
