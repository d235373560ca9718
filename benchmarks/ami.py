"""Measures the speed of the AMI client in two ways, and prints the figures: `python benchmarks/ami.py`.

1. Messages per second from one loopback socket, compared with panoramisk, pystrix and python-ami. Each client runs in a
   separate process, gets the same captured bytes, and reads the event's name and one header in its usual callback. The
   best of five rounds counts. The same stream in 7-byte pieces then shows how many messages a client loses, and in how
   many it damages the caller's name.
2. A snapshot of a real Asterisk with 1,000 endpoints and 50 queues of 20 members (needs the lab's root), on loopback
   and through a proxy that delays each direction: the difference in round trips.
"""

import asyncio
import hashlib
import multiprocessing
import platform
import queue
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.generated_pbx import generated_pbx  # noqa: E402 - a script: the project's path is set above
from pbx.asterisk.ami.client import AmiClient  # noqa: E402
from pbx.asterisk.ami.protocol import Message  # noqa: E402
from pbx.asterisk.ami.queries import take_snapshot  # noqa: E402
from pbx.settings import Connection  # noqa: E402
from tests.lab.provision import LabError  # noqa: E402

HEADER = "CallerIDName"
END = "BenchEnd"
DEADLINE_S = 120
ONE_WAY_S = 0.05


class DeliveredMessages:
    """The messages that a client delivered."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.done = threading.Event()

    def add(self, event: str, name: str) -> None:
        if event == END:
            self.done.set()
        else:
            self.names[name] += 1


def stream(times: int) -> bytes:
    """Return the events of real Asterisk 16 and 22, repeated, and an end marker."""
    files = [ROOT / f"tests/fixtures/asterisk-{version}/events.bin" for version in (16, 22)]
    return b"".join(file.read_bytes() for file in files) * times + f"Event: {END}\r\n\r\n".encode()


def expected(data: bytes) -> Counter[str]:
    """Return the names that a client must deliver, parsed in the simplest way."""
    names: Counter[str] = Counter()
    for frame in data.split(b"\r\n\r\n")[:-2]:
        lines = [line for line in frame.decode().split("\r\n") if line.startswith(f"{HEADER}: ")]
        names[lines[0].partition(": ")[2] if lines else ""] += 1
    return names


def serve(listener: socket.socket, data: bytes, piece: int) -> None:
    """Log one client in by any method, and send the stream when it requests it."""
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(b"Asterisk Call Manager/11.0.0\r\n")
    received, action = b"", ""
    while action != "Go":
        while b"\r\n\r\n" not in received:
            received += sock.recv(4096)
        text, _, received = received.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in text.decode().split("\r\n"))
        action = headers["Action"]
        challenge = "Challenge: 1\r\n" if action == "Challenge" else ""
        sock.sendall(f"Response: Success\r\nActionID: {headers.get('ActionID', '')}\r\n{challenge}\r\n".encode())
    if piece:
        for start in range(0, len(data), piece):
            sock.send(data[start : start + piece])
    else:
        sock.sendall(data)
    while sock.recv(4096):
        pass


def run_ours(port: int, delivered: DeliveredMessages) -> float:
    connection = Connection(host="127.0.0.1", ari_port=1, ami_port=port, ami_username="u")
    with AmiClient.connect(connection, events="on") as client, client.subscribe(limit=10**9) as events:

        def consume() -> None:
            for item in events:
                if isinstance(item, Message):
                    delivered.add(item.event, item.get(HEADER))

        threading.Thread(target=consume, daemon=True).start()
        started = time.perf_counter()
        client.submit("Go")
        delivered.done.wait(DEADLINE_S)
        return time.perf_counter() - started


def run_panoramisk(port: int, delivered: DeliveredMessages) -> float:
    from panoramisk import Manager

    async def main() -> float:
        manager = Manager(loop=asyncio.get_running_loop(), host="127.0.0.1", port=port, username="u", secret="s")
        manager.register_event("*", lambda _, event: delivered.add(event.event, event.get(HEADER, "")))
        await manager.connect()
        await asyncio.sleep(0.2)
        started = time.perf_counter()
        manager.send_action({"Action": "Go"})
        while not delivered.done.is_set() and time.perf_counter() < started + DEADLINE_S:
            await asyncio.sleep(0.01)
        return time.perf_counter() - started

    return asyncio.run(main())


def run_pystrix(port: int, delivered: DeliveredMessages) -> float:
    from pystrix.ami import Manager, core
    from pystrix.ami.ami import _Request

    manager = Manager()
    manager.connect("127.0.0.1", port)
    manager.send_action(core.Login("u", "s"))
    manager.register_callback("", lambda event, _: delivered.add(event.name, event.get(HEADER, "")))
    started = time.perf_counter()
    manager.send_action(_Request("Go"))
    delivered.done.wait(DEADLINE_S)
    return time.perf_counter() - started


def run_python_ami(port: int, delivered: DeliveredMessages) -> float:
    from asterisk.ami import AMIClient, SimpleAction

    client = AMIClient(address="127.0.0.1", port=port, timeout=30)
    client.login("u", "s").get_response()
    client.add_event_listener(lambda event, **_: delivered.add(event.name, event.keys.get(HEADER, "")))
    started = time.perf_counter()
    client.send_action(SimpleAction("Go"))
    delivered.done.wait(DEADLINE_S)
    return time.perf_counter() - started


CLIENTS = {
    "pbx.asterisk.ami": run_ours,
    "panoramisk": run_panoramisk,
    "pystrix": run_pystrix,
    "python-ami": run_python_ami,
}


def measure(name: str, port: int, results: "multiprocessing.Queue[tuple[float, Counter[str]]]") -> None:
    delivered = DeliveredMessages()
    duration_s = CLIENTS[name](port, delivered)
    results.put((duration_s, delivered.names))


def run_client(name: str, data: bytes, piece: int) -> tuple[float, Counter[str]]:
    """Run a client and a server in separate processes; return seconds and the names the client delivered."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = context.Process(target=serve, args=(listener, data, piece), daemon=True)
        server.start()
        client = context.Process(target=measure, args=(name, listener.getsockname()[1], results), daemon=True)
        client.start()
        try:
            return results.get(timeout=DEADLINE_S + 30)
        finally:
            client.kill()
            server.kill()
            client.join()
            server.join()


def compare(title: str, times: int, piece: int, rounds: int) -> dict[str, float]:
    """Print a line for each client; return messages per second."""
    data = stream(times)
    wanted = expected(data)
    total = wanted.total()
    print(f"\n{title}: {total:,} messages, {len(data) / 1e6:.1f} MB")
    speeds = {}
    runs = [(name, *run_client(name, data, piece)) for _ in range(rounds) for name in CLIENTS]
    for name in CLIENTS:
        of_client = [(duration_s, names) for ran, duration_s, names in runs if ran == name]
        lost = max(total - names.total() for _, names in of_client)
        damaged = max((names - wanted).total() for _, names in of_client)
        speeds[name] = max(names.total() / duration_s for duration_s, names in of_client)
        print(f"  {name:12} {speeds[name]:>10,.0f} messages/s   lost {lost:,}   damaged {damaged:,}")
    return speeds


class DelayProxy:
    """Forwards bytes in both directions, `delay_s` seconds after they arrived."""

    def __init__(self, target: tuple[str, int], delay_s: float) -> None:
        self.target, self.delay_s = target, delay_s
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(self.target)
            for one, other in ((near, far), (far, near)):
                other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                late: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(target=self.read, args=(one, late), daemon=True).start()
                threading.Thread(target=self.write, args=(other, late), daemon=True).start()

    def read(self, sock: socket.socket, late: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        data = b"?"
        while data:
            data = sock.recv(256 * 1024)
            late.put((time.monotonic() + self.delay_s, data))

    def write(self, sock: socket.socket, late: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        while True:
            due, data = late.get()
            time.sleep(max(due - time.monotonic(), 0))
            if not data:
                sock.close()
                return
            sock.sendall(data)


def snapshot_times(connection: Connection, rounds: int = 7) -> tuple[float, float, str]:
    """Return the median seconds of a snapshot and of connecting, and the snapshot's size."""
    snapshots, connects, what = [], [], ""
    for _ in range(rounds):
        started = time.perf_counter()
        with AmiClient.connect(connection) as client:
            connects.append(time.perf_counter() - started)
            started = time.perf_counter()
            snapshot = take_snapshot(client)
            snapshots.append(time.perf_counter() - started)
            members = sum(len(one.members) for one in snapshot.queues)
            bad = [name for name, part in snapshot.parts.items() if part.state != "ok"]
            what = (
                f"{len(snapshot.extensions):,} extensions, {len(snapshot.trunks)} trunks, {len(snapshot.queues)} queues"
            )
            what += f" with {members:,} members, parts not ok: {bad or 'none'}"
    return statistics.median(snapshots), statistics.median(connects), what


def time_snapshots() -> None:
    """Print a snapshot's time with and without delay."""
    for version in (16, 22):
        size = {"phones": 1000, "trunks": 5, "queues": 50, "members": 20}
        with generated_pbx(version, "ami-bench", 5330 + version, **size) as pbx:
            near, near_connect, what = snapshot_times(pbx.connection())
            proxy = DelayProxy((pbx.host, pbx.ami_port), ONE_WAY_S)
            through = pbx.connection().model_copy(update={"ami_port": proxy.port})
            far, far_connect, _ = snapshot_times(through)
        trip = 2 * ONE_WAY_S
        print(f"\nA snapshot of Asterisk {version}: {what}")
        print(f"  on loopback {near * 1000:,.0f} ms, with {ONE_WAY_S * 1000:.0f} ms each way {far * 1000:,.0f} ms")
        print(f"  difference {(far - near) / trip:.2f} round trips")
        print(f"  connecting and login before that: {(far_connect - near_connect) / trip:.2f} round trips")


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{multiprocessing.cpu_count()} cores of {model}, {system}"


def main() -> None:
    print(machine())
    digest = hashlib.sha256(stream(1)).hexdigest()[:12]
    print(f"Events captured from Asterisk 16 and 22, sha256 {digest}")
    speeds = compare("One loopback socket", 100, 0, 5)
    best = max(speed for name, speed in speeds.items() if name != "pbx.asterisk.ami")
    print(f"  pbx.asterisk.ami is {speeds['pbx.asterisk.ami'] / best:.1f} times the fastest of the others")
    compare("The stream in 7-byte pieces", 5, 7, 1)
    try:
        time_snapshots()
    except LabError as error:
        sys.exit(f"\n{error}")


if __name__ == "__main__":
    main()
