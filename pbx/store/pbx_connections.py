"""The PBX the app connects to: the one saved on the settings page, otherwise the one from the environment."""

from dataclasses import dataclass
from typing import cast

from sqlalchemy import Engine
from sqlmodel import Session, col, select, update

from pbx.settings import Connection, Settings
from pbx.store.engine import reading, writing
from pbx.store.models import PbxConnection, now
from pbx.store.vault import Vault


@dataclass(frozen=True)
class ActiveConnection:
    """The PBX in use.

    `id` is the key that its calls, snapshots and jobs refer to. `saved` is True if its settings come from the settings
    page, False if they come from the environment.
    """

    id: int
    connection: Connection
    saved: bool


def active_connection(engine: Engine, settings: Settings) -> ActiveConnection | None:
    """Return the PBX to connect to; None if there is none. A saved PBX wins over the one from the environment.

    Raises SettingsError if the saved passwords can't be decrypted, and DataError.
    """
    with reading(engine) as session:
        saved = session.exec(select(PbxConnection).where(col(PbxConnection.active))).first()
        if saved is not None:
            return ActiveConnection(_id(saved), _decrypted(saved, settings), saved=True)
        if settings.connection is None:
            return None
        known = _row(session, settings.connection.host)
    if known is None:
        with writing(engine) as session:
            known = _row_or_new(session, settings.connection.host)
    return ActiveConnection(_id(known), settings.connection, saved=False)


def save_connection(engine: Engine, settings: Settings, connection: Connection) -> int:
    """Save a PBX's settings with encrypted passwords, make it the active PBX, and return its id.

    Data already stored for the same host is kept. Raises SettingsError for a malformed key, and DataError.
    """
    vault = Vault(settings)
    sealed = {
        "ari_password_encrypted": vault.seal(connection.ari_password),
        "ami_password_encrypted": vault.seal(connection.ami_password),
    }
    plain = connection.model_dump(exclude={"host", "ari_password", "ami_password", "ami_plain_login", "ca_file"})
    with writing(engine) as session:
        session.exec(update(PbxConnection).values(active=False))
        row = _row_or_new(session, connection.host)
        ca_file = None if connection.ca_file is None else str(connection.ca_file)
        row.sqlmodel_update(plain | sealed | {"ca_file": ca_file, "saved": True, "active": True, "updated_at": now()})
        session.add(row)
        session.flush()
        return _id(row)


def forget_saved(engine: Engine) -> None:
    """Return to the PBX from the environment. Calls and snapshots stay.

    All saved users and passwords, import addresses and import schedules are deleted.
    """
    saved = ("ari_username", "ari_password_encrypted", "ami_username", "ami_password_encrypted")
    empty = dict.fromkeys((*saved, "import_url_encrypted", "import_schedule"), "")
    with writing(engine) as session:
        session.exec(update(PbxConnection).values(active=False, saved=False, updated_at=now(), **empty))


def _row(session: Session, host: str) -> PbxConnection | None:
    return session.exec(select(PbxConnection).where(PbxConnection.host == host.strip().lower())).one_or_none()


def _row_or_new(session: Session, host: str) -> PbxConnection:
    row = _row(session, host)
    if row is None:
        row = PbxConnection(host=host.strip().lower())
        session.add(row)
        session.flush()
    return row


def _id(row: PbxConnection) -> int:
    return cast(int, row.id)  # never None: the row was read or flushed


def _decrypted(row: PbxConnection, settings: Settings) -> Connection:
    vault = Vault(settings)
    plain = row.model_dump(include={*Connection.model_fields})
    unsealed = {
        "ari_password": vault.unseal(row.ari_password_encrypted),
        "ami_password": vault.unseal(row.ami_password_encrypted),
    }
    return Connection.model_validate(plain | unsealed | {"ami_plain_login": settings.freepbx_ami_plain_login})
