"""What all tables share: their base, how times are stored, and columns derived from the classes of pbx.model."""

from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

from sqlalchemy import BigInteger, Boolean, Dialect, Float, Integer
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator
from sqlmodel import AutoString, Field, SQLModel


class UtcSeconds(TypeDecorator[datetime]):
    """An aware datetime, stored as whole seconds since 1970 UTC: 4 bytes instead of 26."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone can't be stored")
        return max(int(value.timestamp()), 0)  # before 1970 SQL and Python count days differently; there were none

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)


# Counts that the outside decides: eight bytes in PostgreSQL too. In SQLite every integer has as many as it needs.
BigCount = BigInteger().with_variant(Integer, "sqlite")


_SQL_TYPES: dict[type, Any] = {datetime: UtcSeconds, int: BigCount, float: Float, bool: Boolean, str: AutoString}


def now() -> datetime:
    return datetime.now(UTC)


class Table(SQLModel, registry=registry()):
    """Base of all tables, with metadata of its own."""


def columns_of(model: type, *without: str) -> Any:
    """A base class for a table, with a column for each field of a dataclass in `pbx.model`, but those in `without`.

    Times are stored as whole seconds UTC, literals as strings. A field without a default becomes "" or NULL where its
    type allows it.
    """
    hints = get_type_hints(model)
    annotations: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for field in fields(model):
        if field.name in without:
            continue
        parts = get_args(hints[field.name]) or (hints[field.name],)
        kind = next((part for part in parts if part in _SQL_TYPES), str)
        optional = type(None) in parts
        default = field.default if field.default is not MISSING else "" if kind is str else None if optional else ...
        annotations[field.name] = kind | None if optional else kind
        columns[field.name] = Field(default, sa_type=_SQL_TYPES[kind])
    metaclass: Any = type(Table)
    return metaclass(
        f"{model.__name__}Columns", (Table,), {"__module__": __name__, "__annotations__": annotations, **columns}
    )
