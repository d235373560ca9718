"""An empty cache: on SQLite, and in the lab's run on a real PostgreSQL as well."""

import pytest

from pbx.settings import Settings, load_settings
from tests.lab.postgres import empty, postgres

__all__ = ["postgres"]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.lab)])
def settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres")
        empty(url)
        monkeypatch.setenv("PBX_DATABASE_URL", url)
    return load_settings()
