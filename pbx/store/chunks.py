"""Lists of ids and names in pieces that fit into one SQL statement."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")
CHUNK = 500  # both databases limit the parameters of a statement


def chunks(items: Iterable[_T], size: int = CHUNK) -> Iterator[list[_T]]:
    """Yield lists of up to `size` items, in order."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
