"""The database that a PBX's history is imported from, and how often.

Its address contains a password, so it is encrypted like one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal, cast

from pydantic import SecretStr
from sqlmodel import Session

from pbx.settings import Settings
from pbx.store.models import PbxConnection
from pbx.store.vault import Vault

ImportSchedule = Literal["", "hour", "night"]
_NIGHT = timedelta(hours=2)  # when the nightly import is due, in the PBX's own time


@dataclass(frozen=True)
class HistorySource:
    """The database to import from, and how often.

    `address` is empty if there is none. `saved` is True if it comes from the settings page, False if it comes from
    PBX_IMPORT_URL in the environment.
    """

    address: SecretStr
    saved: bool
    every: ImportSchedule

    def __bool__(self) -> bool:
        return bool(self.address.get_secret_value())


def history_source(session: Session, settings: Settings, connection_id: int) -> HistorySource:
    """Return the database to import a PBX's history from: the saved one, otherwise the one from the environment.

    Raises SettingsError if the saved address can't be decrypted.
    """
    row = session.get_one(PbxConnection, connection_id)
    saved = Vault(settings).unseal(row.import_url_encrypted)
    given = settings.pbx_import_url or SecretStr("")
    every = cast(ImportSchedule, row.import_schedule)
    return HistorySource(saved if row.import_url_encrypted else given, bool(row.import_url_encrypted), every)


def save_history_source(
    session: Session, settings: Settings, connection_id: int, *, address: SecretStr | None, every: ImportSchedule
) -> None:
    """Save how often history is imported, and from where. With `address` None, the saved address stays.

    Raises SettingsError for a malformed key, and DataError.
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


def schedule_slot(every: str, at: datetime, zone: tzinfo) -> str:
    """Return the id of the hour or night of a moment: one import is due in each. `zone` is the PBX's time zone."""
    if every == "hour":
        return str(int(at.timestamp()) // 3600)
    return f"{(at.astimezone(zone) - _NIGHT).date()}"
