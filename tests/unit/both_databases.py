"""Settings for an empty database: SQLite, and in the lab also a real PostgreSQL."""

import pytest

from pbx.settings import Settings, load_settings
from tests.lab.postgres import cache_of_postgres, postgres, truncate_tables

__all__ = ["cache_of_postgres", "postgres"]
# For tests of what only SQLite has: its file on this machine, and its limits.
sqlite_only = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.lab)])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    if request.param == "postgresql":
        monkeypatch.setenv("PBX_DATABASE_URL", truncate_tables(request.getfixturevalue("cache_of_postgres")))
    return load_settings()
