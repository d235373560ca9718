"""docs/queries.md describes the views as they are, and its examples run."""

import re
from datetime import date

import duckdb
import pytest
from sqlalchemy import Engine

from pbx.analytics.catalog import CATALOG
from pbx.analytics.statement_check import check_statement
from pbx.analytics.view_descriptions import VIEWS, views_text
from pbx.analytics.views import ViewSource, create_views
from pbx.store.engine import reading
from tests.paths import ROOT
from tests.unit.both_databases import sqlite_only

PAGE = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_describes_the_views_as_they_are() -> None:
    assert PAGE.partition("## The views\n\n")[2] == views_text() + "\n"


@sqlite_only
@pytest.mark.parametrize("sql", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(engine: Engine, sql: str) -> None:
    run(engine, sql)


def test_there_are_three_examples() -> None:
    assert len(EXAMPLES) == 3


@sqlite_only
@pytest.mark.parametrize("name", CATALOG)
def test_the_views_have_what_the_catalog_needs(engine: Engine, name: str) -> None:
    entry = CATALOG[name]
    names = {column.name for column in VIEWS[name].columns}
    assert {entry.at, entry.local, *entry.numbers} <= names
    parts = [*(one.sql for one in entry.dimensions.values()), *(one.sql for one in entry.measures.values())]
    run(engine, f"SELECT {', '.join(parts)} FROM {name} GROUP BY ALL")


def run(engine: Engine, sql: str) -> None:
    connection = duckdb.connect(":memory:")
    with reading(engine) as session:
        create_views(connection, ViewSource(session, lambda rows, phrases: []), check_statement(connection, sql))
        parameters = {"since": date(2026, 1, 31)} if "$since" in sql else {}
        assert connection.sql(sql, params=parameters).fetchall() in ([], [(0, 0, None)])
