"""An empty cache: on SQLite, and when the lab runs, on a real PostgreSQL as well."""

import pytest

from pbx.settings import Settings, load_settings
from tests.lab.postgres import cache_of_postgres, postgres, truncate_tables

__all__ = ["cache_of_postgres", "postgres"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.lab)])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    if request.param == "postgresql":
        monkeypatch.setenv("PBX_DATABASE_URL", truncate_tables(request.getfixturevalue("cache_of_postgres")))
    return load_settings()
