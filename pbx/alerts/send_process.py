"""Sends one message by Apprise, in a process of its own: `python -m pbx.alerts.send_process`.

So a server that never ends its answer, or sends an endless one, can be left for good: the process is killed. What to
send is read from standard input, where no other user of the machine sees the address with its tokens and passwords;
what became of it is written to standard output, both as JSON.

Apprise logs addresses: its log goes nowhere but to `_AppriseLog`, which keeps a reason only.
"""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pbx.errors import PbxError, SettingsError
from pbx.machine import limit_memory

SEND_S = 20.0  # a server that has been silent for so long was not told
TOTAL_S = 60.0  # however it talks
MEMORY_BYTES = 1 << 30  # of the process


def send_in_process(url: str, title: str, text: str) -> str:
    """Send a message within TOTAL_S, and return why it could not be sent, "" if it was. Raises SettingsError."""
    order = json.dumps({"url": url, "title": title, "text": text})
    command = [sys.executable, "-m", "pbx.alerts.send_process"]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, this package
            command, input=order, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=TOTAL_S
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {TOTAL_S:.0f} s"
    except OSError as error:
        return f"no process can be started ({error.strerror})"
    try:
        told = json.loads(done.stdout)
    except ValueError:  # killed, for want of memory say
        return f"sending it ended unexpectedly (exit status {done.returncode})"
    if told["unusable"]:
        raise SettingsError(*told["unusable"])
    return str(told["reason"])


def check_address(url: str) -> None:
    """Raise SettingsError when an address is none that a message can be sent to; nothing is sent."""
    with _quiet():
        _service(_apprise(), url)


def _send(url: str, title: str, text: str) -> str:
    """Send a message in this process; return why it could not be sent. Raises SettingsError."""
    apprise = _apprise()
    with _quiet() as told:
        try:
            service = _service(apprise, url)
            sender = apprise.Apprise(asset=service.asset)
            sender.add(service)
            sent = sender.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT)
        except PbxError:
            raise
        except Exception as error:  # a plugin's mistake; its text may hold the address
            return f"an unexpected {type(error).__name__}"
    return "" if sent else told.reason


def _apprise() -> Any:
    # Imported here: it takes a third of a second, and most processes never send anything.
    import apprise

    logger = logging.getLogger("apprise")
    logger.propagate = False  # a sending given up may still log something
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return apprise


def _service(apprise: Any, url: str) -> Any:
    asset = apprise.AppriseAsset(
        app_id="PBX Notebook",
        app_desc="PBX Notebook",
        app_url="",
        image_url_mask="",  # else messages point to pictures on the web
        image_url_logo="",
        async_mode=False,
        http_redirects=False,
        service_timeout=SEND_S,
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        raise SettingsError(
            "Messages can’t be sent to this address.",
            "Use the form of one of the examples. The Apprise documentation describes all of them.",
        )
    return service


class _AppriseLog(logging.Filter):
    """Lets nothing through of what Apprise logs, and keeps why a message was not sent: a status or kind of fault."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = "it refused the message or did not answer in time"

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        status = re.search(r"\berror=(\d{3})\b", said)
        if status:
            self.reason = f"it answered with HTTP status {status[1]}"
        elif "onnection error" in said:
            self.reason = "it can’t be reached, was too slow, or refused the login"
        return False


@contextmanager
def _quiet() -> Iterator[_AppriseLog]:
    """Apprise's log goes to the filter given, and nowhere else."""
    logger, told = logging.getLogger("apprise"), _AppriseLog()
    logger.setLevel(logging.WARNING)
    logger.addFilter(told)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # its DEBUG lines hold a webhook's path
    try:
        yield told
    finally:
        logger.removeFilter(told)


def main() -> None:
    limit_memory(MEMORY_BYTES)
    unusable: list[str] = []
    reason = ""
    try:
        reason = _send(**json.load(sys.stdin))
    except SettingsError as error:
        unusable = [str(error), error.fix]
    json.dump({"reason": reason, "unusable": unusable}, sys.stdout)


if __name__ == "__main__":
    main()
