"""Encrypts stored passwords with a key that is never in the database."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from pbx.errors import DataError, SettingsError
from pbx.operating_system import replace_file
from pbx.process_lock import file_lock
from pbx.settings import Settings

_MOST_BYTES = 4096  # read from the key file, which is normally 44 bytes long
_NEW_KEY = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


class Vault:
    """Encrypts and decrypts passwords with PBX_SECRET_KEY or the key file data/secret.key.

    PBX_SECRET_KEY can contain several keys separated by commas; the first one encrypts. If it is not set, the key file
    is created when the first password is encrypted, and only this user can read it.
    """

    def __init__(self, settings: Settings) -> None:
        self._environment = settings.pbx_secret_key
        self._file = settings.pbx_data_dir / "secret.key"

    def seal(self, secret: SecretStr) -> str:
        """Encrypt a password; an empty one stays empty.

        Raises SettingsError for a malformed key, and DataError if the key file can't be used.
        """
        value = secret.get_secret_value()
        return self._fernet(make=True).encrypt(value.encode()).decode() if value else ""

    def unseal(self, sealed: str) -> SecretStr:
        """Decrypt a password.

        Raises SettingsError if the key is malformed, gone or not the one that encrypted it, and DataError if the key
        file can't be used.
        """
        if not sealed:
            return SecretStr("")
        try:
            return SecretStr(self._fernet(make=False).decrypt(sealed).decode())
        except InvalidToken:
            raise SettingsError(
                "The saved passwords can't be read: the key is not the one they were saved with.",
                f"Bring back the old PBX_SECRET_KEY or {self._file}, or enter the passwords again under "
                "Settings > FreePBX integration.",
            ) from None

    def _fernet(self, *, make: bool) -> MultiFernet:
        given = self._environment.get_secret_value().split(",") if self._environment else []
        keys = [("PBX_SECRET_KEY", key) for key in given]
        try:
            if make and not keys and not self._file.exists():
                self._make_file()
            if self._file.exists():  # even with PBX_SECRET_KEY: it decrypts older passwords
                with self._file.open("rb") as file:
                    keys.append((str(self._file), file.read(_MOST_BYTES).decode("ascii", "replace")))
        except OSError as error:
            raise DataError(
                f"The key file {self._file} can't be used: {error.strerror}.",
                f"Give this user the right to read and write in {self._file.parent}, or set PBX_SECRET_KEY.",
            ) from error
        if not keys:
            raise SettingsError(
                f"The saved passwords can't be read: their key {self._file} is gone.",
                "Bring it back, or enter the passwords again under Settings > FreePBX integration.",
            )
        return MultiFernet([_fernet(origin, key) for origin, key in keys])

    def _make_file(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self._file.with_name(f".{self._file.name}.lock")):
            if not self._file.exists():  # if another process was first, its key is used
                replace_file(_private_file(self._file.parent, Fernet.generate_key()), self._file)


def _fernet(origin: str, key: str) -> Fernet:
    try:
        return Fernet(key.strip())
    except ValueError:
        raise SettingsError(
            f"The key in {origin} is malformed.", f"Restore the original key, or create one with: {_NEW_KEY}"
        ) from None


def _private_file(folder: Path, content: bytes) -> Path:
    with NamedTemporaryFile(dir=folder, prefix=".key-", delete=False) as file:  # created with mode 0600
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Path(file.name)
