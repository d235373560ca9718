"""The database that a PBX's history is read from, and how often. Its address holds a password, and is sealed as one."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal, cast

from pydantic import SecretStr
from sqlmodel import Session

from pbx.settings import Settings
from pbx.store.models import PbxConnection
from pbx.store.vault import Vault

Every = Literal["", "hour", "night"]
_NIGHT = timedelta(hours=2)  # when the night's reading is due, in the PBX's own time


@dataclass(frozen=True)
class HistorySource:
    """`address` is empty where there is none; `saved`: on the page, rather than PBX_IMPORT_URL of the environment."""

    address: SecretStr
    saved: bool
    every: Every

    def __bool__(self) -> bool:
        return bool(self.address.get_secret_value())


def history_source(session: Session, settings: Settings, connection_id: int) -> HistorySource:
    """Where a PBX's history is read from: the address saved, else the environment's.

    Raises SettingsError when the saved address can't be opened.
    """
    row = session.get_one(PbxConnection, connection_id)
    saved = Vault(settings).unseal(row.import_url_encrypted)
    given = settings.pbx_import_url or SecretStr("")
    every = cast(Every, row.import_schedule)
    return HistorySource(saved if row.import_url_encrypted else given, bool(row.import_url_encrypted), every)


def save_history_source(
    session: Session, settings: Settings, connection_id: int, *, address: SecretStr | None, every: Every
) -> None:
    """Save how often history is read, and where from; without an `address` the saved one stays.

    Raises SettingsError for a malformed key, DataError.
    """
    row = session.get_one(PbxConnection, connection_id)
    if address is not None:
        row.import_url_encrypted = Vault(settings).seal(address)
    row.import_schedule = every
    session.add(row)


def forget_history_source(session: Session, connection_id: int) -> None:
    """Delete the saved address and the import schedule."""
    row = session.get_one(PbxConnection, connection_id)
    row.import_url_encrypted = row.import_schedule = ""
    session.add(row)


def slot_of(every: str, at: datetime, zone: tzinfo) -> str:
    """Return the hour, or the night by the PBX's clock, that a moment is in: one import is due in each."""
    if every == "hour":
        return str(int(at.timestamp()) // 3600)
    return f"{(at.astimezone(zone) - _NIGHT).date()}"
