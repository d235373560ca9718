"""A PBX for tests: a demo PBX that a test can break, restart, and set to another release or time."""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from pbx.demo.ami_messages import Release
from pbx.demo.ami_server import AmiSession
from pbx.demo.ari_server import AriConnection
from pbx.demo.asterisk_16 import ASTERISK_16
from pbx.demo.client_connection import ClientConnection
from pbx.demo.demo_pbx import DemoPbx, utc_now
from tests.simulator.faults import Faults
from tests.simulator.faulty_connections import FaultyAmiSession, FaultyAriConnection, FaultyClientConnection
from tests.simulator.simulated_recordings import SimulatedRecordings


class SimulatedPbx(DemoPbx):
    """A demo PBX with faults. Any thread may call its methods.

    Port 0 lets the system choose one. There are no recordings unless they are given.
    """

    recordings: SimulatedRecordings

    def __init__(
        self,
        *,
        release: Release = ASTERISK_16,
        ami_port: int = 0,
        clock: Callable[[], datetime] = utc_now,
        recordings: SimulatedRecordings | None = None,
    ) -> None:
        recordings = SimulatedRecordings() if recordings is None else recordings
        super().__init__(release=release, clock=clock, recordings=recordings)
        self.ami_port = ami_port
        self.faults = Faults()
        self.ahead = timedelta()  # how far the PBX's clock is ahead of the simulation's

    def pbx_now(self) -> datetime:
        """The time that the PBX's own clock shows, which `jump_clock` changes."""
        return self.clock() + self.ahead

    def change_password(self, password: str = "") -> str:
        """Set another password, a random one if none is given, and return it. Sessions stay logged in."""
        self.password = password or secrets.token_urlsafe(18)
        return self.password

    def restart(self) -> None:
        """Restart Asterisk: it loses its calls and connections, and its counters are 0."""
        self.asterisk = self.release.asterisk_class(self.clock())
        self.drop_connections()

    def jump_clock(self, by: timedelta) -> None:
        """Set the PBX's clock forward or back. The simulation continues as before."""
        self.ahead += by

    def drop_connections(self) -> None:
        """Reset every connection. New ones are accepted."""
        self._call_in_loop(self._reset_connections)

    def _accepts(self, server: Literal["ami", "ari"]) -> bool:
        return self.faults.take("refuse", server) is None

    def _new_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> ClientConnection:
        return FaultyClientConnection(reader, writer, self.faults)

    def _new_session(self, connection: ClientConnection) -> AmiSession:
        assert isinstance(connection, FaultyClientConnection)
        return FaultyAmiSession(self, connection, self.faults)

    def _new_ari_connection(self, connection: ClientConnection) -> AriConnection:
        assert isinstance(connection, FaultyClientConnection)
        return FaultyAriConnection(self, connection, self.faults)
