"""An Asterisk with only ARI and recordings, for benchmarks and for tests that restart, fill or break it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pbx.settings import Connection
from tests.lab.servers import ARI_SECRET, RecordingAsterisk

PORTS = {16: (5416, 5426), 22: (5422, 5432)}  # AMI, HTTP


@dataclass(frozen=True)
class SpareAsterisk(RecordingAsterisk):
    """A bare Asterisk with its own ports and directories, separate from the lab's servers."""

    def connection(self) -> Connection:
        return Connection(
            host=self.host,
            ari_port=self.http_port,
            ari_username="notebook",
            ari_password=ARI_SECRET,
            ami_port=self.ami_port,
        )

    def substitutes(self) -> dict[str, str]:
        return super().substitutes() | {"SUFFIX": self.suffix, "HTTP_PORT": str(self.http_port)}

    def configure(self) -> None:
        super().configure()
        self.monitor.mkdir(exist_ok=True)
        if not self.recording.is_symlink():
            self.recording.symlink_to("monitor")

    def empty(self) -> None:
        """Delete all recordings, and undo all changes to their directory."""
        shutil.rmtree(self.monitor)
        self.monitor.mkdir()
        self.recording.unlink(missing_ok=True)
        self.recording.symlink_to("monitor")

    def remove(self) -> None:
        """Stop it and delete all its directories."""
        self.stop()
        directories = (self.etc, self.spool, self.logs)
        for directory in (
            *directories,
            self.root / f"run/asterisk{self.suffix}",
            self.root / f"var/lib/asterisk{self.suffix}",
        ):
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Run it with new directories, then stop it and delete them."""
        self.remove()
        try:
            self.start()
            yield
        finally:
            self.remove()


@contextmanager
def spare_asterisk(version: int, purpose: str) -> Iterator[SpareAsterisk]:
    """Run a spare Asterisk 16 or 22 without recordings, then stop it and delete its files."""
    ami_port, http_port = PORTS[version]
    server = SpareAsterisk(
        name=f"spare-{version}",
        version=version,
        ami_port=ami_port,
        suffix=f"-{purpose}",
        templates=("spare",),
        http_port=http_port,
    )
    with server.fresh():
        yield server
