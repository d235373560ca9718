"""Rows as columns of numbers, for the formulas that work on all rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Columns:
    """Columns of equal length. Those in `names` hold indexes into their tuple of names. Unknown numbers are NaN,
    and unknown integers -1.
    """

    columns: Mapping[str, NDArray[Any]]
    names: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def where(self, mask: NDArray[np.bool_]) -> "Columns":
        """The rows whose flag is set."""
        if mask.all():
            return self
        return Columns({name: values[mask] for name, values in self.columns.items()}, self.names)

    def code(self, column: str, name: str) -> int:
        """The index of a name in a column's names; -1 when no row has it."""
        return self.names[column].index(name) if name in self.names[column] else -1

    def narrowed(self, required: Mapping[str, str | None]) -> "Columns":
        """The rows that have the required name in each column; None requires nothing."""
        masks = [self[column] == self.code(column, name) for column, name in required.items() if name is not None]
        return self.where(np.logical_and.reduce(masks)) if masks else self


def columns_of_arrow(table: pa.Table) -> Columns:
    """The columns of an Arrow table; columns of text become indexes into their names."""
    columns: dict[str, NDArray[Any]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for name, column in zip(table.column_names, table.combine_chunks().columns, strict=True):
        if pa.types.is_string(column.type):
            encoded = pc.dictionary_encode(column).combine_chunks()
            encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) and encoded.num_chunks else encoded
            names[name] = tuple(encoded.dictionary.to_pylist()) if len(column) else ()
            columns[name] = (encoded.indices.to_numpy() if len(column) else np.zeros(0)).astype(np.int64)
        else:
            columns[name] = (column.fill_null(-1) if pa.types.is_integer(column.type) else column).to_numpy()
    return Columns(columns, names)
