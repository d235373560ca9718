"""The process that runs one statement of the analyst's own: `python -m pbx query-process`.

It reads its request from standard input, opens the database to read, creates the views that the statement mentions,
takes from DuckDB all ways to reach files, and only then runs the statement.
"""

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from sqlalchemy import URL

from pbx.analytics.contained_sql import ANSWER_FILE, RESULT_FILE, SPILL_DIR
from pbx.analytics.engine import text_literal
from pbx.analytics.statement_check import check_parameters, check_statement, sql_error
from pbx.analytics.view_tables import TopicsOfSegments
from pbx.analytics.views import ViewSource, create_views
from pbx.errors import PbxError, SqlError
from pbx.operating_system import end_with_parent, refuse_memory, usable_cores
from pbx.store.engine import open_to_read, reading

_BATCH_ROWS = 2_000
_OF_FILE = re.compile(r"\.parquet|decompress", re.IGNORECASE)  # in errors that a damaged file causes
_MOST_THREADS = 4
_SPILL_BYTES = 4_000_000_000
_GRACE_S = 5  # the process that started this one should have killed it by then


def answer_request(topics_of: TopicsOfSegments) -> None:
    """Answer the request on standard input: the result and the answer are files in the request's folder."""
    request = json.loads(sys.stdin.buffer.readline())
    _end_in_time(float(request["time_s"]))
    refuse_memory(int(request["memory_bytes"]))
    try:
        answer = _run(request, topics_of)
    except (MemoryError, duckdb.OutOfMemoryException):
        answer = {"error": "memory"}
    except PbxError as error:
        answer = _error(error)
    except Exception as error:  # whatever it is, the user must see it
        answer = _error(sql_error(error, request["sql"]))
        if "Out of Memory" in str(error):
            answer["error"] = "memory"
        elif isinstance(error, duckdb.IOException) or _OF_FILE.search(str(error)):
            answer["error"] = "file"
    shutil.rmtree(Path(request["folder"]) / SPILL_DIR, ignore_errors=True)
    part = Path(request["folder"]) / f"{ANSWER_FILE}.part"
    part.write_text(json.dumps(answer), encoding="utf-8")
    part.replace(part.with_suffix(""))
    sys.stdout.flush()
    os._exit(0)  # without waiting for threads of DuckDB


def _end_in_time(time_s: float) -> None:
    """End when the process that started this one has ended, or when the time limit is long over."""
    stop = threading.Event()
    end_with_parent(stop)

    def wait() -> None:
        stop.wait(time_s + _GRACE_S)
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="limit").start()


def _error(error: PbxError) -> dict[str, Any]:
    found = {"message": str(error), "fix": error.fix}
    if isinstance(error, SqlError):
        return found | {"error": "sql", "line": error.line, "column": error.column}
    return found | {"error": "data"}


def _run(request: Mapping[str, Any], topics_of: TopicsOfSegments) -> dict[str, Any]:
    connection, sql = _connect(request), str(request["sql"])
    views = check_statement(connection, sql)
    parameters = {name: _value(*tagged) for name, tagged in request["parameters"].items()}
    check_parameters(connection.extract_statements(sql)[0].named_parameters, parameters)
    path = URL.create("sqlite", database=request["sqlite"]) if request["sqlite"] else str(request["url"])
    engine = open_to_read(path, Path(request["columns_dir"]))
    with reading(engine) as session:
        names = ("own_host", "own_timezone", "interval_s")
        source = ViewSource(session, topics_of, **{name: request[name] for name in names})
        create_views(connection, source, views)
        _lock(connection, request["columns_dir"])
        return _write(_relation(connection, sql, parameters), request) | {"views": views}


def _relation(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any]
) -> duckdb.DuckDBPyRelation:
    try:
        return connection.sql(sql, params=parameters)
    except duckdb.Error as error:
        raise _located(connection, sql, error) from None


def _located(connection: duckdb.DuckDBPyConnection, sql: str, error: duckdb.Error) -> SqlError:
    """An error with its position, which DuckDB gives for EXPLAIN only."""
    before = "EXPLAIN "
    try:
        connection.execute(before + sql)
    except duckdb.Error as found:
        if type(found) is type(error):
            return sql_error(found, sql, len(before))
    return sql_error(error, sql)


def _connect(request: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    config: dict[str, Any] = {
        "memory_limit": f"{int(request['memory_bytes']) // 2 // 1_000_000}MB",
        "threads": min(usable_cores(), _MOST_THREADS),
        "temp_directory": str(Path(request["folder"]) / SPILL_DIR),
        "max_temp_directory_size": f"{_SPILL_BYTES // 1_000_000}MB",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "python_enable_replacements": False,  # a statement can't read variables of this module
    }
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET TimeZone = 'UTC'; SET errors_as_json = true")
    return connection


def _lock(connection: duckdb.DuckDBPyConnection, columns_dir: str) -> None:
    """Take from DuckDB the access to everything but the copies of past days, for good."""
    connection.execute(f"SET allowed_directories = [{text_literal(columns_dir)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _value(kind: str, value: Any) -> Any:
    return {"date": date.fromisoformat, "datetime": datetime.fromisoformat}[kind](value) if kind else value


def _write(found: duckdb.DuckDBPyRelation, request: Mapping[str, Any]) -> dict[str, Any]:
    """Write the rows up to the limits; return how many there are, and which limit cut them."""
    reader = found.to_arrow_reader(_BATCH_ROWS)
    rows, rows_left, bytes_left, cut = 0, int(request["rows"]), int(request["result_bytes"]), ""
    path = Path(request["folder"]) / RESULT_FILE
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, reader.schema) as writer:
        for batch in reader:
            kept = batch.slice(0, rows_left)
            cut = "rows" if len(kept) < len(batch) else ""
            if kept.nbytes > bytes_left:
                kept, cut = kept.slice(0, len(kept) * bytes_left // kept.nbytes), "bytes"
            writer.write_batch(kept)
            rows, rows_left, bytes_left = rows + len(kept), rows_left - len(kept), bytes_left - kept.nbytes
            if cut:
                break
    return {"rows": rows, "cut": cut}
