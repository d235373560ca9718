"""Sends one message through Apprise, in a separate process: `python -m pbx.alerts.send_process`.

The process is killed if a server never finishes its answer. It reads the message from standard input, because other
users of the machine can read command lines, and the address contains tokens and passwords. It writes the result to
standard output. Both are JSON.

Apprise logs addresses, so `_AppriseLog` discards its log and keeps only the reason of a failure.
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
from pbx.operating_system import limit_memory

READ_TIMEOUT_S = 20.0  # a server that is silent for longer counts as failed
SEND_TIMEOUT_S = 60.0  # even if the server keeps sending
MAX_MEMORY_BYTES = 1 << 30  # of the process


def send_in_process(url: str, title: str, text: str) -> str:
    """Send a message within SEND_TIMEOUT_S. Return the reason if that fails, otherwise "". Raises SettingsError."""
    order = json.dumps({"url": url, "title": title, "text": text})
    command = [sys.executable, "-m", "pbx.alerts.send_process"]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, this package
            command, input=order, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=SEND_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {SEND_TIMEOUT_S:.0f} s"
    except OSError as error:
        return f"no process could be started ({error.strerror})"
    try:
        result = json.loads(done.stdout)
    except ValueError:  # the process was killed, perhaps for lack of memory
        return f"the sending process ended unexpectedly with exit status {done.returncode}"
    if result["unusable"]:
        raise SettingsError(*result["unusable"])
    return str(result["reason"])


def check_address(url: str) -> None:
    """Raise SettingsError if messages can't be sent to an address of this form. Nothing is sent."""
    with _quiet():
        _service(_apprise(), url)


def _send(url: str, title: str, text: str) -> str:
    """Send a message in this process. Return the reason if that fails, otherwise "". Raises SettingsError."""
    apprise = _apprise()
    with _quiet() as apprise_log:
        try:
            service = _service(apprise, url)
            sender = apprise.Apprise(asset=service.asset)
            sender.add(service)
            sent = sender.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT)
        except PbxError:
            raise
        except Exception as error:  # a bug in a plugin; its text may contain the address
            return f"an unexpected {type(error).__name__}"
    return "" if sent else apprise_log.reason


def _apprise() -> Any:
    # Imported here: it takes a third of a second, and most processes never send anything.
    import apprise

    logger = logging.getLogger("apprise")
    logger.propagate = False  # Apprise may still log after a timeout
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return apprise


def _service(apprise: Any, url: str) -> Any:
    asset = apprise.AppriseAsset(
        app_id="PBX Notebook",
        app_desc="PBX Notebook",
        app_url="",
        image_url_mask="",  # otherwise messages contain links to images on the web
        image_url_logo="",
        async_mode=False,
        http_redirects=False,
        service_timeout=READ_TIMEOUT_S,
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        raise SettingsError(
            "Messages can’t be sent to this address.",
            "Use the form of one of the examples. The Apprise documentation describes all of them.",
        )
    return service


class _AppriseLog(logging.Filter):
    """Discards all that Apprise logs, and keeps the reason why a message was not sent."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = "the server refused the message or didn’t answer"

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        status = re.search(r"\berror=(\d{3})\b", text)
        if status:
            self.reason = f"the server answered with HTTP status {status[1]}"
        elif "onnection error" in text:
            self.reason = "the server is unreachable, was too slow, or refused the login"
        return False


@contextmanager
def _quiet() -> Iterator[_AppriseLog]:
    """Send Apprise's log to a filter that discards it, and yield that filter."""
    logger, apprise_log = logging.getLogger("apprise"), _AppriseLog()
    logger.setLevel(logging.WARNING)
    logger.addFilter(apprise_log)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # its DEBUG lines contain the path of a webhook
    try:
        yield apprise_log
    finally:
        logger.removeFilter(apprise_log)


def main() -> None:
    """Read a message from standard input, send it, and write the result to standard output."""
    limit_memory(MAX_MEMORY_BYTES)
    unusable: list[str] = []
    reason = ""
    try:
        reason = _send(**json.load(sys.stdin))
    except SettingsError as error:
        unusable = [str(error), error.fix]
    json.dump({"reason": reason, "unusable": unusable}, sys.stdout)


if __name__ == "__main__":
    main()
