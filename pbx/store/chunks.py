"""Split lists into chunks: ids and names that fit into one SQL statement, or rows of one transaction."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")
CHUNK = 500  # both databases limit the number of parameters of a statement


def chunks(items: Iterable[_T], size: int = CHUNK) -> Iterator[list[_T]]:
    """Yield the items in order, in lists of up to `size`."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
