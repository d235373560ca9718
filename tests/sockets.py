"""Reads complete messages from raw sockets."""

import socket
from collections.abc import Callable


def read_until(connection: socket.socket, is_complete: Callable[[bytes], bool]) -> bytes:
    """Read until the bytes are complete. Raises EOFError with the bytes so far if the other side closes before that."""
    received = b""
    while not is_complete(received):
        data = connection.recv(65536)
        if not data:
            raise EOFError(received)
        received += data
    return received
