"""Sends one message by Apprise: `python -m pbx.jobs.messenger`, with the message as JSON in its standard input.

A process of its own, because a receiver that sends a byte now and then, or a body without end, holds its thread and
fills memory until the process ends. Apprise logs addresses, which hold tokens and passwords: its log goes nowhere but
to `_Told`, which keeps a reason only.
"""

import contextlib
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pbx.errors import PbxError, SettingsError

REFUSED = "it refused the message or did not answer in time"
_MOST_MEMORY_BYTES = 2_000_000_000  # of address space, of which libraries reserve much


def send_now(url: str, title: str, text: str, limit_s: float) -> str:
    """Send a message, and return why that failed in words without the address; "" when it was sent."""
    apprise = _apprise()
    with quiet() as told:
        try:
            service = service_of(url, limit_s)
            sender = apprise.Apprise(asset=service.asset)
            sender.add(service)
            sent = sender.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT)
        except PbxError as error:
            return str(error).rstrip(".")
        except Exception as error:  # a plugin's mistake; its text may hold the address
            return f"an unexpected {type(error).__name__}"
    return "" if sent else told.reason


def main() -> None:
    """Send the message of standard input, print {"reason": …}, and end: with it whatever thread still waits."""
    message = json.load(sys.stdin)
    clock = threading.Timer(message["limit_s"] + 1, os._exit, (1,))  # though nobody is left to end this process
    clock.daemon = True
    clock.start()
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    print(json.dumps({"reason": send_now(**message)}), flush=True)
    os._exit(0)


def _apprise() -> Any:
    # Imported here: it takes a third of a second, and most processes never send anything.
    import apprise

    logger = logging.getLogger("apprise")
    logger.propagate = False  # a sending given up may still log something
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return apprise


def service_of(url: str, limit_s: float = 0.0) -> Any:
    """What Apprise makes of an address, with a limit on sending. Raises SettingsError for one that it can't use."""
    apprise = _apprise()
    asset = apprise.AppriseAsset(
        app_id="PBX Notebook",
        app_desc="PBX Notebook",
        app_url="",
        image_url_mask="",  # else messages point to pictures on the web
        image_url_logo="",
        async_mode=False,
        http_redirects=False,
        service_timeout=limit_s,
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        raise SettingsError(
            "This is not an address that a message can be sent to.",
            "Write it as one of the examples; all forms are described by Apprise.",
        )
    return service


class _Told(logging.Filter):
    """Lets nothing through of what Apprise logs, and keeps why a message was not sent: a status or kind of fault."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = REFUSED

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        status = re.search(r"\berror=(\d{3})\b", said)
        if status:
            self.reason = f"it answered with HTTP status {status[1]}"
        elif "onnection error" in said:
            self.reason = "it can’t be reached, was too slow, or refused the login"
        return False


@contextmanager
def quiet() -> Iterator[_Told]:
    """Apprise's log goes to the filter given, and nowhere else."""
    logger, told = logging.getLogger("apprise"), _Told()
    logger.setLevel(logging.WARNING)
    logger.addFilter(told)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # its DEBUG lines hold a webhook's path
    try:
        yield told
    finally:
        logger.removeFilter(told)


if __name__ == "__main__":
    main()
