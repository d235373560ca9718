"""A connection to the demo PBX."""

import asyncio
import contextlib
import socket
import struct

READ_LIMIT_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, not with a FIN


class ClientConnection:
    """One accepted connection. Several tasks may send; one sends at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()

    async def read_line(self) -> bytes:
        """The next line with its end; b"" once the peer has gone. Raises ValueError for an endless one."""
        return await self.reader.readline()

    async def send(self, data: bytes) -> None:
        """Write all of it. Raises ConnectionError when the connection is gone."""
        async with self._sending:
            if self._writer.is_closing():
                raise ConnectionResetError("The connection is closed.")
            await self._send(data)

    async def _send(self, data: bytes) -> None:
        await self.write(data)

    async def write(self, data: bytes) -> None:
        """Write data and wait until the peer has room for more."""
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Close it hard: the peer gets a reset, and what was not sent is lost."""
        with contextlib.suppress(OSError, AttributeError):
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close it once all is sent."""
        with contextlib.suppress(OSError):
            self._writer.close()
            await self._writer.wait_closed()
