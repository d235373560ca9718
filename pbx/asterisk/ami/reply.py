"""The complete reply to an action, whether it succeeded, and the reason when it was refused."""

import re
from dataclasses import dataclass

from pbx.asterisk.ami.protocol import Message
from pbx.errors import AmiActionError, AmiDenied

# The classes that allow each action, from `ListCommands` and `manager show command` (16 and 22).
PRIVILEGES = {
    "Command": "command",
    "CoreSettings": "system or reporting",
    "CoreShowChannels": "system or reporting",
    "CoreStatus": "system or reporting",
    "IAXpeerlist": "system or reporting",
    "IAXregistry": "system or reporting",
    "PJSIPShowContacts": "system",
    "PJSIPShowEndpoint": "system",
    "PJSIPShowEndpoints": "system",
    "PJSIPShowRegistrationsOutbound": "system or reporting",
    "SIPshowpeer": "system or reporting",
    "SIPpeers": "system or reporting",
    "SIPshowregistry": "system or reporting",
}

# An empty list is answered as an error: "No Contacts found", "No endpoints found", "No active conferences."
_NOTHING = re.compile(r"no (\w+ )*(endpoints|contacts|aors|auths|registrations|subscriptions|conferences)\b", re.I)


@dataclass(frozen=True)
class AmiReply:
    """An action's response and, where it is a list, the items and the event that completes it."""

    action: str
    response: Message
    items: tuple[Message, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The response and the items."""
        return (self.response, *self.items)

    @property
    def text(self) -> str:
        """Asterisk's text in the `Message` header."""
        return self.response.get("Message")

    @property
    def output(self) -> list[str]:
        """The lines a CLI command printed."""
        return self.response.getlist("Output")

    @property
    def denied(self) -> bool:
        """Whether the AMI user has no permission for the action."""
        return self._failed and self.text == "Permission denied"

    @property
    def absent(self) -> bool:
        """Whether no loaded module knows the action."""
        return self._failed and self.text.startswith("Invalid/unknown command")

    @property
    def failed(self) -> bool:
        """Whether it was refused for any reason. An empty list is not a failure."""
        return self._failed and not _NOTHING.match(self.text)

    @property
    def _failed(self) -> bool:
        return self.response.response == "Error"

    @property
    def reason(self) -> str:
        """Why it failed, as a sentence; empty when it didn't fail."""
        if self.denied:
            return (
                f"The AMI user may not run {self.action}: it lacks the class {PRIVILEGES.get(self.action, 'for it')}."
            )
        if self.absent:
            return f"Asterisk doesn't know {self.action}: its module isn't loaded, or not yet just after a start."
        return f"{self.action} failed: {self.text or 'no reason given'}." if self.failed else ""

    def check(self) -> "AmiReply":
        """Return self; raise AmiDenied or AmiActionError if the action was refused."""
        if self.denied:
            fix = "Add the class to write= of that user in manager.conf, then `asterisk -rx 'manager reload'`."
            raise AmiDenied(self.reason, fix)
        if self.failed and self.output:
            raise AmiActionError("\n".join(self.output).strip(), "Try the command on the PBX with `asterisk -rvvv`.")
        if self.failed:
            raise AmiActionError(self.reason)
        return self
