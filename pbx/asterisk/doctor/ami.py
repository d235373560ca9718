"""The steps that check AMI, the manager interface: port, TLS, greeting, login, rights, version."""

import re
import socket
import ssl
import time

from pbx.asterisk.ami.client import AmiClient, AmiTiming
from pbx.asterisk.ami.connection import AmiConnection, await_greeting, log_in, wrap_tls
from pbx.asterisk.ami.protocol import AmiParser
from pbx.asterisk.ami.queries import PART_ACTIONS
from pbx.asterisk.ami.reply import PRIVILEGES, AmiReply
from pbx.asterisk.doctor import advice
from pbx.asterisk.doctor.network import Address, open_port
from pbx.asterisk.doctor.step import Check, CheckSession, StepFailed, StepResult
from pbx.errors import AmiLoginError, AmiPlainLogin, AmiProtocolError, Deadline, Unreachable
from pbx.settings import Connection

GREETING_S = 3.0  # Asterisk greets immediately
STEP_S = 5.0  # for TLS, and for the login: Asterisk waits a second before it refuses one
ACTION_S = 20.0
MIN_VERSION = 14  # the first Asterisk whose ARI serves recordings
_MODULES = {"queues": "app_queue.so", "extensions": "chan_pjsip.so", "trunks": "chan_pjsip.so"}


class AmiCheck(CheckSession):
    """Checks AMI step by step, in one session. A context manager, which closes the session."""

    def __init__(self, connection: Connection, addresses: list[Address]) -> None:
        super().__init__()
        self.connection = connection
        self.addresses = addresses
        self._replies: dict[str, AmiReply] = {}
        self._sock: socket.socket
        self._link: AmiConnection
        self._client: AmiClient

    def steps(self) -> list[Check]:
        """The steps, in order."""
        tls = [Check("AMI TLS", self.tls)] if self.connection.ami_tls else []
        return [
            Check("AMI port open", self.port),
            *tls,
            Check("AMI greeting", self.greeting),
            Check("AMI login", self.login),
            Check("AMI permissions", self.rights, required=False),
            Check("Asterisk version", self.version, required=False),
        ]

    def port(self) -> StepResult:
        """Connect to the AMI port."""
        self._sock = self._open.enter_context(open_port(self.addresses, self.connection.ami_port, "AMI"))
        peer, own = self._sock.getpeername(), self._sock.getsockname()
        return StepResult(f"{peer[0]}:{peer[1]} accepts connections. This machine’s address is {own[0]}.")

    def tls(self) -> StepResult:
        """Encrypt the connection and verify the certificate."""
        secured = wrap_tls(self._sock, self.connection, time.monotonic() + STEP_S)
        self._sock = self._open.enter_context(secured)
        return StepResult(f"{secured.version()}, with a valid certificate for {self.connection.host}.")

    def greeting(self) -> StepResult:
        """Wait for the line with which AMI greets."""
        self._link = AmiConnection(self._sock, AmiParser())
        await_greeting(self._link, self.connection, time.monotonic() + GREETING_S)
        return StepResult(f"Asterisk Call Manager {self._link.ami_version}.")

    def login(self) -> StepResult:
        """Log in as the AMI user."""
        user = self.connection.ami_username
        if not user:
            raise StepFailed("No AMI user is set.", ["Set FREEPBX_AMI_USERNAME and FREEPBX_AMI_PASSWORD."])
        try:
            in_clear = log_in(self._link, self.connection, "off", time.monotonic() + STEP_S)
        except AmiPlainLogin as error:
            raise StepFailed(str(error), [error.fix]) from None
        except AmiLoginError as error:
            source = str(self._sock.getsockname()[0]).partition("%")[0]
            raise StepFailed(str(error), advice.ami_login(user, source)) from None
        self._client = self._open.enter_context(
            AmiClient(
                self.connection,
                self._link,
                events="off",
                timing=AmiTiming(STEP_S, ACTION_S, idle_s=ACTION_S, keepalive_s=ACTION_S, retry_s=60),
            )
        )
        if in_clear:
            text = f"Logged in as {user!r}. The password was sent in plain text, because the PBX offers no challenge."
            return StepResult(
                text,
                "warning",
                ["Turn on AMI over TLS (FREEPBX_AMI_TLS), or make sure that nobody can read traffic on this network."],
            )
        return StepResult(f"Logged in as {user!r}" + ("." if self._encrypted else ". The connection is not encrypted."))

    @property
    def _encrypted(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket)

    def rights(self) -> StepResult:
        """Run every action that a snapshot needs, and check that each is allowed."""
        actions = dict.fromkeys(action for part in PART_ACTIONS.values() for action in part)
        futures = {action: self._client.submit(action) for action in actions}
        late, wrong = [], []
        for action, future in futures.items():
            try:
                self._replies[action] = future.result()
            except Deadline:
                late.append(action)
            except AmiProtocolError as error:
                wrong.append(error)
            except Unreachable:  # a malformed answer also ends the connection
                if not wrong:
                    raise
        if wrong:
            raise StepFailed(" ".join(str(error) for error in wrong), [error.fix for error in wrong])
        denied = [action for action, reply in self._replies.items() if reply.denied]
        if denied:
            return self._denied(denied)
        if late:
            text = f"No answer within {ACTION_S:.0f} s to {', '.join(late)}."
            raise StepFailed(
                text,
                ["Check whether the PBX is overloaded: `asterisk -rx 'core show taskprocessors'` shows full queues."],
            )
        failed = [reply.reason for reply in self._replies.values() if reply.failed and not reply.absent]
        if failed:
            return StepResult(" ".join(failed), "warning")
        absent = [part for part, needs in PART_ACTIONS.items() if all(self._replies[action].absent for action in needs)]
        if absent:
            modules = dict.fromkeys(_MODULES.get(part, "its module") for part in absent)
            fix = [f"If the PBX uses them, load the module:\nasterisk -rx 'module load {module}'" for module in modules]
            return StepResult(f"Asterisk has no support loaded for {', '.join(absent)}.", "warning", fix)
        return StepResult(f"All {len(actions)} actions that a snapshot needs are allowed.")

    def _denied(self, denied: list[str]) -> StepResult:
        # `system` allows every action; `reporting` allows those that either class allows.
        lacking = "system" if any(PRIVILEGES.get(action, "system") == "system" for action in denied) else "reporting"
        parts = [part.replace("_", " ") for part, needs in PART_ACTIONS.items() if set(needs) & set(denied)]
        user = self.connection.ami_username
        text = (
            f"The user {user!r} may not run {', '.join(denied)}: the class {lacking} is missing. "
            f"So data is missing or incomplete for: {', '.join(parts)}."
        )
        return StepResult(text, "failed", advice.ami_rights(user, lacking))

    def version(self) -> StepResult:
        """Check that Asterisk is recent enough."""
        settings = self._replies.get("CoreSettings")
        ami = f"AMI {self._link.ami_version}"
        if settings is None or settings.failed:
            return StepResult(f"{ami}. The user may not read Asterisk's own version.", "warning")
        version = settings.response.get("AsteriskVersion")
        major = re.match(r"\D*(\d{1,4})", version)
        if major and int(major[1]) < MIN_VERSION:
            fix = [f"Update the PBX: ARI serves recordings from Asterisk {MIN_VERSION} on."]
            return StepResult(f"Asterisk {version}, {ami} is too old.", "failed", fix)
        return StepResult(f"Asterisk {version}, {ami}.")
