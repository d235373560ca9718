"""A connection to the demo PBX: what is read from it, and what is written to it through the armed faults."""

import asyncio
import contextlib
import socket
import struct

from pbx.demo.faults import Faults

READ_LIMIT_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by a reset, not by a farewell


class Wire:
    """One accepted connection. Of several tasks that send, one sends at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Faults) -> None:
        self.reader = reader
        self.faults = faults
        self._writer = writer
        self._sending = asyncio.Lock()

    async def read_line(self) -> bytes:
        """The next line with its end; b"" once the peer has gone. Raises ValueError for an endless one."""
        return await self.reader.readline()

    async def send(self, data: bytes, where: str) -> None:
        """Write all of it, as the faults armed for this spot let it. Raises ConnectionError when the line is gone."""
        async with self._sending:
            if self._writer.is_closing():
                raise ConnectionResetError("The connection is closed.")
            await self._send(data, where)

    async def _send(self, data: bytes, where: str) -> None:
        if stall := self.faults.take("stall", where):
            await self._write(data[: stall.after_bytes])
            data = data[stall.after_bytes :]
            await asyncio.sleep(stall.seconds)
        if cut := self.faults.take("cut", where):
            await self._write(data[: cut.after_bytes])
            self.reset()
            raise ConnectionResetError("A fault cut the connection.")
        if trickle := self.faults.take("trickle", where):
            for position in range(len(data)):
                await self._write(data[position : position + 1])
                await asyncio.sleep(trickle.seconds)
            return
        await self._write(data)

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Close it hard: the peer gets a reset, what was not sent is lost."""
        with contextlib.suppress(OSError, AttributeError):
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close it once all is sent."""
        with contextlib.suppress(OSError):
            self._writer.close()
            await self._writer.wait_closed()
