"""The settings from the environment and `.env`: one immutable, validated object that masks passwords when printed."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import URL

from pbx import text_encoding as charset
from pbx.errors import SettingsError

Port = Field(ge=1, le=65535)
DEMO_DIR = "demo"  # in the data directory: the data directory of the demo
NESTED_DATA_DIRS = frozenset({DEMO_DIR})  # folders in a data directory that are data directories themselves
DEMO_MARK = "on"  # in DEMO_DIR once the demo is complete; contains an id of this demo
DEMO_PBX = "pbx.json"  # in DEMO_DIR: ports and login of the running demo PBX
DEMO_ZONE = "Europe/London"
# A host name, IPv4 address or bracketed IPv6 address with an optional port, as in the header Host.
HOST_AND_PORT = re.compile(
    r"(?P<name>[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
)
_REFUSING_PORT = 1  # nothing listens there: used while the demo PBX isn't running


def checked_zone(name: str | None) -> str | None:
    """Return an IANA time zone name, or None if empty. Raises ValueError if the zone doesn't exist."""
    if not name:
        return None
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; use a name such as Europe/Berlin") from error
    return name


def checked_prefix(prefix: str) -> str:
    """Return http.conf's `prefix` with a leading slash, or "" if empty. Raises ValueError if it isn't a path."""
    path = prefix.strip().removeprefix("/").rstrip("/")
    if not path.isprintable() or "://" in path or len(path) > 80:
        raise ValueError("enter it as in http.conf, such as asterisk")
    return f"/{path}" if path else ""


class Connection(BaseModel):
    """The address and logins of one PBX."""

    model_config = ConfigDict(frozen=True)

    host: str = Field(min_length=1)
    ari_port: int = Port
    ari_tls: bool = False
    ari_prefix: str = ""  # of http.conf, such as /asterisk
    ari_username: str = ""
    ari_password: SecretStr = SecretStr("")
    ami_port: int = Port
    ami_tls: bool = False
    ami_plain_login: bool = False  # whether to send the password in plain text to a server that offers no challenge
    ami_username: str = ""
    ami_password: SecretStr = SecretStr("")
    ca_file: Path | None = None
    timezone: str | None = None

    _prefix = field_validator("ari_prefix")(checked_prefix)

    @property
    def ari_path(self) -> str:
        """The path with which all of ARI's URLs begin, percent-encoded."""
        return f"{quote(self.ari_prefix)}/ari"

    @property
    def ari_url(self) -> str:
        """The base URL of ARI, without a trailing slash and without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.ari_tls else 'http'}://{host}:{self.ari_port}{self.ari_path}"


class Settings(BaseSettings):
    """The settings of the app, each named like its environment variable. `.env.example` describes them."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    freepbx_host: str = ""
    freepbx_ari_port: int = Field(8088, ge=1, le=65535)
    freepbx_ari_tls: bool = False
    freepbx_ari_prefix: str = ""
    freepbx_ari_username: str = ""
    freepbx_ari_password: SecretStr = SecretStr("")
    freepbx_ami_port: int = Field(5038, ge=1, le=65535)
    freepbx_ami_tls: bool = False
    freepbx_ami_plain_login: bool = False
    freepbx_ami_username: str = ""
    freepbx_ami_password: SecretStr = SecretStr("")
    freepbx_ca_file: Path | None = None
    freepbx_timezone: str | None = None
    freepbx_sync_interval_minutes: int = Field(10, ge=1)
    freepbx_collect_interval_minutes: int = Field(5, ge=1)
    freepbx_largest_recording_mb: int = Field(1000, ge=1, le=1_000_000)  # 17 hours of WAV at 8 kHz
    freepbx_watch: bool = True  # whether the worker receives live events; needs an AMI user
    whisper_engine: Literal["whisper", "faster-whisper"] = "whisper"
    whisper_model: str = Field("base", min_length=1)  # a model name, or the path of a checkpoint
    whisper_device: str = "auto"
    whisper_language: str = "auto"
    whisper_precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    whisper_max_spans: int | None = Field(None, ge=1)  # speech spans decoded together, at most; None: as many as fit
    # URL of an OpenAI-compatible server, including /v1; may contain a login. Empty: summaries are made locally.
    analysis_url: SecretStr = SecretStr("")
    analysis_model: str = ""
    analysis_key: SecretStr = SecretStr("")
    pbx_data_dir: Path = Path("data")
    pbx_least_free_mb: int = Field(500, ge=0)  # disk space that downloads leave free
    pbx_database_url: SecretStr | None = None  # may contain a password
    pbx_import_url: SecretStr | None = None  # database for imports; may contain a password
    pbx_encoding: str = charset.DEFAULT  # for names that aren't UTF-8
    pbx_secret_key: SecretStr | None = None
    pbx_allow_network: bool = False  # whether other machines may open the app, without signing in
    pbx_allowed_hosts: str = ""  # other host names of the app, separated by commas

    _zone = field_validator("freepbx_timezone")(checked_zone)
    _prefix = field_validator("freepbx_ari_prefix")(checked_prefix)
    _encoding = field_validator("pbx_encoding")(charset.checked_encoding)
    _demo_id: str = PrivateAttr("")

    @field_validator("pbx_allowed_hosts")
    @classmethod
    def _hosts(cls, names: str) -> str:
        for name in names.lower().replace(",", " ").split():
            if not HOST_AND_PORT.fullmatch(name):
                raise ValueError("use names such as notebook.example.com or localhost:9000, separated by commas")
        return names

    @property
    def demo_id(self) -> str:
        """The id of the demo that these settings are of; "" with real data."""
        return self._demo_id

    @property
    def data_label(self) -> str:
        """The label of pages and files with made-up calls: "Demo", or "" with real data."""
        return "Demo" if self._demo_id else ""

    @property
    def home_dir(self) -> Path:
        """The data directory as it is set. The demo's data directory is a folder in it."""
        return self.pbx_data_dir.parent if self._demo_id else self.pbx_data_dir

    @property
    def connection(self) -> Connection | None:
        """The PBX that the environment names, or None if FREEPBX_HOST is empty."""
        if not self.freepbx_host:
            return None
        return Connection(**{name: getattr(self, f"freepbx_{name}") for name in Connection.model_fields})

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Other host names of the app, some with a port."""
        return frozenset(self.pbx_allowed_hosts.lower().replace(",", " ").split())

    @property
    def analysis_server(self) -> str:
        """The server that writes summaries, without login, path and query; "" if none is set."""
        try:
            parts = urlsplit(self.analysis_url.get_secret_value().strip())
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else ""
        except ValueError:
            return ""

    @property
    def audio_dir(self) -> Path:
        """The folder of downloaded recordings."""
        return self.pbx_data_dir / "audio"

    @property
    def models_dir(self) -> Path:
        """The folder of speech models. The demo shares it with real data."""
        return self.home_dir / "models"

    @property
    def playable_dir(self) -> Path:
        """The folder of playable copies of recordings. It may be deleted at any time."""
        return self.pbx_data_dir / "playable"

    @property
    def columns_dir(self) -> Path:
        """The folder of past days copied to Parquet files. It may be deleted at any time."""
        return self.pbx_data_dir / "columns"

    @property
    def imports_dir(self) -> Path:
        """The folder of uploaded files that wait for their import, which deletes them."""
        return self.pbx_data_dir / "imports"

    @property
    def database_url(self) -> str | URL:
        """The database URL that is set, or that of the SQLite file (not a string, because its path may contain `?`)."""
        if self.pbx_database_url is not None:
            return self.pbx_database_url.get_secret_value()
        return URL.create("sqlite", database=str(self.pbx_data_dir / "pbx.sqlite"))


def load_settings() -> Settings:
    """Read the environment and `.env` (or the file that PBX_ENV_FILE names; empty for none).

    While the demo is on, these are the demo's settings. It is on while DEMO_MARK exists and FREEPBX_HOST is empty.
    Raises SettingsError, which names each wrong variable but never its value.
    """
    own = load_folder_settings()
    folder = own.pbx_data_dir / DEMO_DIR
    if not own.demo_id and not own.freepbx_host and (mark := demo_mark(folder)):
        return demo_settings(own, folder, mark)
    return own


def load_folder_settings() -> Settings:
    """Read the settings for the data directory itself, even if it contains a demo. Raises SettingsError.

    For processes that keep to one data directory while the demo is started or removed. If the directory is a demo's,
    these are the demo's settings.
    """
    file = os.environ.get("PBX_ENV_FILE", ".env")
    try:
        settings = Settings(_env_file=file or None)
    except ValidationError as error:
        problems = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False))
        raise SettingsError(f"Invalid settings: {problems}.", "Correct them in the environment or in .env.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"The settings file {file} can't be read: {reason}.", "Save the file as UTF-8.") from None
    charset.use_fallback(settings.pbx_encoding)
    mark = demo_mark(settings.pbx_data_dir)
    return demo_settings(settings, settings.pbx_data_dir, mark) if mark else settings


def require_real_data(settings: Settings) -> None:
    """Raise SettingsError in the demo, so that real calls are never mixed with made-up ones."""
    if settings.data_label:
        raise SettingsError(
            "This is the demo, and its cache holds made-up calls only.",
            "Remove the demo (python -m pbx demo --remove), connect your PBX, then import.",
        )


def demo_mark(folder: Path) -> str:
    """Return the id of the complete demo in a folder, or "" if there is none."""
    try:
        return (folder / DEMO_MARK).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def demo_settings(real: Settings, folder: Path, mark: str) -> Settings:
    """Return the settings of the demo in a folder. While its PBX isn't running, they name a port without a listener."""
    access: dict[str, object] = {"ami_port": _REFUSING_PORT, "ari_port": _REFUSING_PORT}
    access |= {"username": "demo", "password": ""}
    with suppress(OSError, ValueError, TypeError):  # the file doesn't exist while the demo PBX is starting
        access |= json.loads((folder / DEMO_PBX).read_text(encoding="utf-8"))
    user, password = access["username"], SecretStr(str(access["password"]))
    own: dict[str, object] = {
        "pbx_data_dir": folder,
        "pbx_database_url": None,
        "pbx_secret_key": None,
        "freepbx_host": "127.0.0.1",
        "freepbx_timezone": DEMO_ZONE,
        "freepbx_watch": True,
        "freepbx_ami_plain_login": False,
        "freepbx_ca_file": None,
        "freepbx_ari_prefix": "",
        "analysis_url": SecretStr(""),  # no demo data leaves this machine
    }
    for name in ("ami", "ari"):
        own |= {f"freepbx_{name}_port": access[f"{name}_port"], f"freepbx_{name}_tls": False}
        own |= {f"freepbx_{name}_username": user, f"freepbx_{name}_password": password}
    demo = real.model_copy(update=own)
    demo._demo_id = mark
    return demo
