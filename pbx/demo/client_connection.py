"""A client's connection to the demo PBX, to AMI or ARI."""

import asyncio
import contextlib
import socket
import struct

READ_LIMIT_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset instead of a FIN


class ClientConnection:
    """One accepted connection. Several tasks may call `send`; their data isn't mixed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()

    async def read_line(self) -> bytes:
        """The next line with its line end, or b"" after the client has left. Raises ValueError for an endless line."""
        return await self.reader.readline()

    async def send(self, data: bytes) -> None:
        """Send all of the data. Raises ConnectionError when the connection is closed."""
        async with self._sending:
            if self._writer.is_closing():
                raise ConnectionResetError("The connection is closed.")
            await self._send(data)

    async def _send(self, data: bytes) -> None:
        await self.write(data)

    async def write(self, data: bytes) -> None:
        """Write data and wait until the client can receive more."""
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Reset the connection. Data that wasn't sent is lost."""
        with contextlib.suppress(OSError, AttributeError):
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection after all data is sent."""
        with contextlib.suppress(OSError):
            self._writer.close()
            await self._writer.wait_closed()
