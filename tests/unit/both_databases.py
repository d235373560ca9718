"""Fixtures: an empty database in SQLite and, if the lab is up, in a real PostgreSQL server too."""

import pytest

from pbx.settings import Settings, load_settings
from tests.lab.postgres import cache_of_postgres, emptied, postgres

__all__ = ["cache_of_postgres", "postgres"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.lab)])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    if request.param == "postgresql":
        monkeypatch.setenv("PBX_DATABASE_URL", emptied(request.getfixturevalue("cache_of_postgres")))
    return load_settings()
