"""What all tables share: the base class, how times are stored, and columns derived from classes in pbx.model."""

from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

from sqlalchemy import BigInteger, Boolean, Dialect, Float, Integer
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator
from sqlmodel import AutoString, Field, SQLModel


class UtcSeconds(TypeDecorator[datetime]):
    """A timezone-aware datetime, stored as whole seconds since 1970 UTC: 4 bytes instead of 26."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone can't be stored")
        # SQL and Python count days before 1970 differently; no real time is that early.
        return max(int(value.timestamp()), 0)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)


# For numbers that come from outside: eight bytes in PostgreSQL. SQLite gives every integer the bytes it needs.
BigCount = BigInteger().with_variant(Integer, "sqlite")


_SQL_TYPES: dict[type, Any] = {datetime: UtcSeconds, int: BigCount, float: Float, bool: Boolean, str: AutoString}


def now() -> datetime:
    return datetime.now(UTC)


class Table(SQLModel, registry=registry()):
    """The base class of all tables, with its own metadata."""


def columns_of(model: type, *without: str) -> Any:
    """Return a base class for a table, with a column for each field of a dataclass in `pbx.model` except `without`.

    Times are stored as whole seconds UTC, literals as strings. If a field has no default, its column defaults to "" for
    text and to NULL for other optional types; otherwise it is required.
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
