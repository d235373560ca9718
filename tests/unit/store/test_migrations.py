"""Migrations upgrade every earlier revision with its rows, and the last one gives the schema of the models."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine

import pbx.store.migrations
import pbx.store.models
from pbx.settings import Settings, load_settings
from pbx.store.engine import open_engine, upgrade
from pbx.store.models import Table

SCRIPT = ScriptDirectory(str(Path(pbx.store.migrations.__file__).parent))
REVISIONS = [step.revision for step in SCRIPT.walk_revisions()][::-1]


@pytest.fixture
def settings() -> Settings:
    """Settings for SQLite: these tests check what only SQLite does."""
    return load_settings()


def is_model(name: str | None) -> bool:
    """Whether a table belongs to a model, so isn't alembic's own, the search index or one of its shadow tables."""
    return name not in (None, "alembic_version") and not re.match(r"(said|segment_index)(_|$)", str(name))


RENAMED = {
    "watch_spans": "listening_spans",
    "import_marks": "import_cursors",
    "trunk_limits": "trunk_capacities",
}
MODELS_ONLY = {"include_name": lambda name, kind, _: kind != "table" or is_model(name)}  # what alembic compares


def add_rows(connection: Connection) -> dict[str, int]:
    """Insert a row of ones into every table of any schema; return the number of rows by table."""
    metadata = sa.MetaData()
    metadata.reflect(connection, only=lambda name, _: is_model(name))
    tables = metadata.sorted_tables
    for table in tables:
        values = ["'{}'" if isinstance(column.type, sa.JSON) else "1" for column in table.columns]
        connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({', '.join(values)})")
    return {table.name: 1 for table in tables}


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_earlier_database_is_upgraded_with_its_rows(settings: Settings, revision: str) -> None:
    settings.pbx_data_dir.mkdir()
    old = create_engine(settings.database_url)
    with old.begin() as connection:
        upgrade(connection, SCRIPT, revision)
        before = add_rows(connection)
    old.dispose()
    engine = open_engine(settings)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == SCRIPT.get_current_head()
        names = {name: RENAMED.get(name, name) for name in before if name != "day_packs"}
        after = {old: connection.exec_driver_sql(f"SELECT count(*) FROM {new}").scalar() for old, new in names.items()}
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    engine.dispose()
    before.pop("day_packs", None)  # copies that the upgrade drops
    assert after == before


def test_upgrading_from_0009_finds_the_onward_trunk_of_stored_legs(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir()
    old = create_engine(settings.database_url)
    channels = {
        "PJSIP/carrier-1": ("PJSIP/carrier-2", "carrier"),
        "PJSIP/carrier-3": ("PJSIP/carrier-west-4", "carrier-west"),
        "PJSIP/carrier-5": ("PJSIP/1001-6", ""),
        "PJSIP/carrier-7": ("Local/carrier@from-internal-8;1", ""),
        "PJSIP/1001-9": ("PJSIP/carrier-a", ""),
    }
    with old.begin() as connection:
        upgrade(connection, SCRIPT, "0009")
        add_rows(connection)
        legs, trunks = (sa.Table(name, sa.MetaData(), autoload_with=connection) for name in ("call_legs", "subjects"))
        (row,), (trunk,) = (connection.execute(sa.select(table)).mappings().all() for table in (legs, trunks))
        for number, name in enumerate(("carrier", "carrier-west"), start=2):
            connection.execute(trunks.insert().values(**dict(trunk) | {"id": number, "kind": "trunk", "name": name}))
        for number, (channel, (dst_channel, _)) in enumerate(channels.items(), start=2):
            changes = {"id": number, "channel": channel, "dst_channel": dst_channel, "trunk": "carrier"}
            connection.execute(legs.insert().values(**dict(row) | changes))
    old.dispose()
    engine = open_engine(settings)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT channel, onward_trunk FROM call_legs WHERE id > 1").all()
    engine.dispose()
    assert {one.channel: one.onward_trunk for one in found} == {one: onward for one, (_, onward) in channels.items()}


def test_upgrading_from_0010_resets_the_import_cursors_of_the_cdr(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir()
    old = create_engine(settings.database_url)
    with old.begin() as connection:
        upgrade(connection, SCRIPT, "0010")
        add_rows(connection)
        connection.exec_driver_sql("UPDATE import_marks SET position = 99, rows = 9, bad = 1")
        connection.exec_driver_sql(
            "INSERT INTO import_marks (connection_id, kind, source, label, position, rows, bad, faults, read_at)"
            " SELECT connection_id, 'cdr', 'a file', label, 99, 9, 1, faults, read_at FROM import_marks"
        )
        connection.exec_driver_sql("UPDATE import_marks SET kind = 'queue_log' WHERE source != 'a file'")
    old.dispose()
    engine = open_engine(settings)
    with engine.connect() as connection:
        cursors = connection.exec_driver_sql("SELECT kind, position, rows, unreadable FROM import_cursors").all()
    engine.dispose()
    assert {cursor.kind: tuple(cursor)[1:] for cursor in cursors} == {"queue_log": (99, 9, 1), "cdr": (0, 0, 0)}


def test_upgrading_from_0010_replaces_numbers_in_queue_by_the_visited_queues(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir()
    upgrade_calls_stored_live(settings)


def upgrade_calls_stored_live(settings: Settings) -> None:
    """Calls stored live before step 0011: no telephone rang for 2 and 3; 4 overflowed; 5 and 6 have no visit."""
    old = create_engine(settings.database_url)
    did, at = "0305550", 1_772_452_800
    calls = {  # queue, to_number, disposition; the leg's dst_channel and dst
        2: (did, did, "NO ANSWER", "", did),
        3: (did, "601", "NO ANSWER", "", did),
        4: ("600", "600", "ANSWERED", "PJSIP/1001-1", "600"),
        5: ("600", "600", "ANSWERED", "PJSIP/1001-1", "600"),
        6: (did, did, "ANSWERED", "", did),
    }
    visits = [(2, "601", 0, "abandoned"), (3, "601", 0, "timeout"), (4, "601", 0, "timeout"), (4, "602", 9, "answered")]
    with old.begin() as connection:
        upgrade(connection, SCRIPT, "0010")
        add = adder(connection, "connections", "calls", "call_legs", "queue_visits")
        add("connections", id=1)
        for number, (queue, to_number, disposition, dst_channel, dst) in calls.items():
            ids = {"id": number, "linkedid": f"{number}.1", "uniqueid": f"{number}.1", "did": did, "started_at": at}
            add("calls", **ids, queue=queue, to_number=to_number, disposition=disposition)
            channels = {"channel": f"PJSIP/carrier-{number}", "dst_channel": dst_channel}
            add("call_legs", **ids, **channels, call_id=number, dst=dst, source="watch", last_app="Queue")
        for visit_id, (number, queue, after_s, outcome) in enumerate(visits, start=2):
            times = {"joined_at": at + after_s, "connected_at": None, "outcome": outcome}
            add("queue_visits", id=visit_id, uniqueid=f"{number}.1", queue=queue, **times)
    old.dispose()
    engine = open_engine(settings)
    with engine.execution_options(pbx_writes=True).begin() as connection:
        found = connection.exec_driver_sql("SELECT id, queue, answered_in, to_number FROM calls WHERE id > 1").all()
        dst = connection.exec_driver_sql("SELECT dst FROM call_legs WHERE id > 1 ORDER BY id").scalars().all()
    engine.dispose()
    assert {one.id: tuple(one)[1:] for one in found} == {
        2: ("601", "", "601"),
        3: ("601", "", "601"),
        4: ("601, 602", "602", "600"),
        5: ("600", "600", "600"),
        6: ("", "", did),  # its queue is unknown
    }
    assert dst == ["601", "601", "600", "600", did]


def test_upgrading_from_0014_renames_stored_values(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir()
    upgrade_stored_values(settings)


def upgrade_stored_values(settings: Settings) -> None:
    """Upgrade from step 0014; check sources and import results."""
    old, at = create_engine(settings.database_url), 1_772_452_800
    source = {"source": "queue_log", "rows": 9, "bad": 1, "faults": [[4, "no"]], "changes": 2, "unknown": {"bad": 3}}
    with old.begin() as connection:
        upgrade(connection, SCRIPT, "0014")
        tables = (
            "connections",
            "calls",
            "call_legs",
            "queue_visits",
            "import_cursors",
            "jobs",
            "subjects",
        )
        add = adder(connection, *tables)
        add("connections", id=1)
        add("subjects", id=1, kind="trunk")
        for number, origin in enumerate(("watch", "cdr", "queue_log"), start=1):
            add("calls", id=number, linkedid=f"{number}.1", started_at=at)
            add("call_legs", id=number, call_id=number, linkedid=f"{number}.1", started_at=at, source=origin)
            add("queue_visits", id=number, uniqueid=f"{number}.1", joined_at=at, source=origin)
        add("import_cursors", id=1, bad_rows=7)
        add("jobs", id="1", kind="import", result={"rows": 9, "bad": 1, "sources": [source]})
        add("jobs", id="2", kind="sync", result={"bad": 1})
    old.dispose()
    engine = open_engine(settings)
    with engine.execution_options(pbx_writes=True).begin() as connection:
        for table in ("call_legs", "queue_visits"):
            sources = connection.exec_driver_sql(f"SELECT source FROM {table} ORDER BY id").scalars().all()
            assert sources == ["live", "cdr", "queue_log"]
        assert connection.exec_driver_sql("SELECT unreadable FROM import_cursors").scalar() == 7
        jobs = sa.Table("jobs", sa.MetaData(), autoload_with=connection)
        results = connection.execute(sa.select(jobs.c.result).order_by(jobs.c.id)).scalars().all()
    engine.dispose()
    renamed = {"source": "queue_log", "rows": 9, "unreadable": 1, "errors": [[4, "no"]], "agent_events": 2}
    assert results == [{"rows": 9, "unreadable": 1, "sources": [renamed | {"unknown": {"bad": 3}}]}, {"bad": 1}]


def test_upgrading_from_0015_replaces_packed_days(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir()
    upgrade_packed_days(settings)


def upgrade_packed_days(settings: Settings) -> None:
    """Upgrade from step 0015, whose triggers delete packed days; check that the new triggers reopen sealed days."""
    old, at = create_engine(settings.database_url), 1_772_452_800
    with old.begin() as connection:
        upgrade(connection, SCRIPT, "0015")
        add = adder(connection, "connections", "calls", "day_packs", "subjects")
        add("connections", id=1)
        add("subjects", id=1, kind="trunk")
        add("calls", id=1, linkedid="1.1", started_at=at)
        add("day_packs", kind="calls", day=at // 86_400, data=b"")
    old.dispose()
    engine = open_engine(settings)
    with engine.execution_options(pbx_writes=True).begin() as connection:
        assert not sa.inspect(connection).has_table("day_packs")
        add = adder(connection, "sealed_days", "agent_events", "trunk_samples")
        datasets = ["agent_events", "agent_rings", "calls", "queue_visits", "trunk_calls", "trunk_samples"]
        for dataset in datasets:
            add("sealed_days", dataset=dataset, day=at // 86_400)
        add("agent_events", id=1, happened_at=at, kind="login")
        add("trunk_samples", taken_at=at)
        connection.exec_driver_sql("UPDATE calls SET to_number = '600'")
        sealed = connection.exec_driver_sql("SELECT dataset FROM sealed_days ORDER BY dataset").scalars().all()
    engine.dispose()
    assert sealed == ["agent_rings", "queue_visits", "trunk_calls"]


def adder(connection: Connection, *names: str) -> Callable[..., None]:
    """Return a function that adds a row to one of the tables, with a valid value in each required column."""
    tables = {name: sa.Table(name, sa.MetaData(), autoload_with=connection) for name in names}
    values = {str: "", int: 1, float: 1.0, bool: False, bytes: b"", object: {}}  # JSON is an object

    def add(name: str, **changes: object) -> None:
        needed = [column for column in tables[name].columns if not column.nullable and not column.server_default]
        row = {column.name: values[column.type.python_type] for column in needed} | changes
        connection.execute(tables[name].insert().values({k: v for k, v in row.items() if k in tables[name].c}))

    return add


def test_the_last_migration_gives_the_schema_of_the_models(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=MODELS_ONLY), Table.metadata) == []


def test_samples_of_a_subject_are_stored_together(engine: Engine) -> None:
    # A month of one queue is then a few hundred pages in a row, not one row on each of 43,200 pages.
    with engine.connect() as connection:
        tables = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE name LIKE '%_samples'").all()
    assert len(tables) == 4
    for name, ddl in tables:
        assert re.search(r"PRIMARY KEY \(subject_id, taken_at\)", ddl), name
        assert "WITHOUT ROWID" in ddl, name


def test_a_failed_migration_leaves_the_database_unchanged(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir()
    old = create_engine(settings.database_url)
    with old.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE jobs (mine TEXT)")  # conflicts with a table of a migration
    old.dispose()
    with pytest.raises(sa.exc.OperationalError, match="jobs already exists"):
        open_engine(settings)
    with create_engine(settings.database_url).connect() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    assert names == ["jobs"]


def test_the_migrations_form_one_line() -> None:
    assert len(SCRIPT.get_heads()) == 1
    assert [Path(SCRIPT.get_revision(name).path).name[:5] for name in REVISIONS] == [f"v{name}" for name in REVISIONS]
