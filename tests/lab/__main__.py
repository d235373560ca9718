"""Starts, stops and uses the lab: `python -m tests.lab up|down|status|calls|capture`. Needs root and only Python."""

import fcntl
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.lab.calls import calls
from tests.lab.capture_fixtures import capture
from tests.lab.provision import LabError, lab_dir, provision
from tests.lab.servers import CARRIER, PHONES, SERVERS


def up() -> None:
    """Build, configure and start what isn't running yet, and wait until all of it is in its documented state."""
    lab_dir().mkdir(parents=True, exist_ok=True)
    with (lab_dir() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes may start the lab at the same time
        provision()
        CARRIER.start()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.start(), SERVERS.values()))
        PHONES.start()
    status()


def down() -> None:
    """Stop everything, including what an earlier run left behind."""
    PHONES.stop()
    for server in (*SERVERS.values(), CARRIER):
        server.stop()


def status() -> None:
    """Print what is running and on which ports."""
    for server in SERVERS.values():
        ports = f"AMI {server.ami_port}, TLS {server.ami_tls_port}; ARI {server.http_port}, TLS {server.https_port}"
        print(f"{server.name:12} {'up' if server.running else 'down':5} {ports}; SIP {server.sip_port}")
    for process in (CARRIER, PHONES):
        print(f"{process.name:12} {'up' if process.running else 'down':5} SIP {process.sip_port}")


COMMANDS: dict[str, Callable[[], None]] = {"up": up, "down": down, "status": status, "calls": calls, "capture": capture}


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        print(f"usage: python -m tests.lab {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        COMMANDS[sys.argv[1]]()
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
