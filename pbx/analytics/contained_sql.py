"""Runs SQL of the analyst's own in a process of its own, with limits on time, memory, and the size of the result.

The process is `python -m pbx query-process`: see pbx.analytics.contained_process. It is killed at a limit, so this
process stays small and alive whatever the statement does.
"""

import contextlib
import json
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
import pyarrow as pa
from sqlalchemy import make_url

from pbx.analytics.sealing import delete_damaged
from pbx.errors import DataError, SqlError, SqlLimit
from pbx.operating_system import start_command
from pbx.settings import Settings
from pbx.store.engine import open_to_read, reading

SqlValue = str | int | float | bool | date | datetime | None
ANSWER_FILE, RESULT_FILE, SPILL_DIR = "answer.json", "result.arrow", "spill"
_POLL_S = 0.03
_LESS = "Select fewer columns, filter by time, or count instead of listing."


@dataclass(frozen=True, slots=True)
class SqlLimits:
    """What a statement may take. `rows` and `result_bytes` cut the result; beyond the others, the statement ends."""

    rows: int = 100_000
    result_bytes: int = 200_000_000
    time_s: float = 60.0
    memory_bytes: int = 2_000_000_000


@dataclass(frozen=True, slots=True)
class SqlResult:
    """The result of a statement. `cut`: the limit that cut it, "" if it is complete. `views`: those it read."""

    table: pa.Table
    cut: Literal["", "rows", "bytes"] = ""
    views: tuple[str, ...] = ()
    took_s: float = 0.0
    limits: SqlLimits = field(default_factory=SqlLimits)

    @property
    def note(self) -> str:
        """What the user should know of the result, as a sentence; "" if it is complete."""
        if self.cut == "rows":
            return f"Only the first {self.limits.rows:,} rows are shown."
        size = f"{self.limits.result_bytes / 1e6:,.0f} MB"
        return f"Only the first {self.table.num_rows:,} rows are shown: more than {size}." if self.cut else ""


def run_sql(
    settings: Settings,
    sql: str,
    parameters: Mapping[str, SqlValue] | None = None,
    limits: SqlLimits | None = None,
    stop: threading.Event | None = None,
) -> SqlResult:
    """The result of a SELECT about the documented views. `parameters` are the values of `$name`.

    It ends early when `stop` is set. The database must have been opened before (`open_engine`). Raises SqlError for a
    statement that is refused, fails or is stopped, SqlLimit for one that takes too much, and DataError.
    """
    limits = limits or SqlLimits()
    if not sql.isascii() and sql.encode(errors="ignore").decode() != sql:
        raise SqlError("The statement contains characters that aren't text.", "Write it in UTF-8.")
    with tempfile.TemporaryDirectory(prefix="pbx-query-", ignore_cleanup_errors=True) as name:
        folder, began = Path(name), time.monotonic()
        request = _request(settings, sql, parameters or {}, limits, folder)
        with (folder / "log").open("wb") as log:
            process = start_command("query-process", data_dir=settings.pbx_data_dir, stdin=subprocess.PIPE, output=log)
            try:
                _send(process, request)
                _wait(process, limits, began, stop)
            finally:
                process.kill()
                process.wait()
                if process.stdin:
                    with contextlib.suppress(OSError):
                        process.stdin.close()
        answer = _answer(folder, limits, settings)
        with pa.OSFile(str(folder / RESULT_FILE)) as file, pa.ipc.open_stream(file) as reader:
            table = reader.read_all()
    return SqlResult(table, answer["cut"], tuple(answer["views"]), time.monotonic() - began, limits)


def _request(
    settings: Settings, sql: str, parameters: Mapping[str, SqlValue], limits: SqlLimits, folder: Path
) -> dict[str, Any]:
    url = make_url(settings.database_url)
    is_sqlite = url.get_backend_name() == "sqlite"
    return {
        "sql": sql,
        "parameters": {name: _tagged(value) for name, value in parameters.items()},
        "sqlite": str(Path(str(url.database)).absolute()) if is_sqlite else "",
        "url": "" if is_sqlite else url.render_as_string(hide_password=False),
        "columns_dir": str(settings.columns_dir.absolute()),
        "own_host": settings.freepbx_host,
        "own_timezone": settings.freepbx_timezone,
        "interval_s": settings.freepbx_collect_interval_minutes * 60,
        "folder": str(folder),
        "rows": limits.rows,
        "result_bytes": limits.result_bytes,
        "time_s": limits.time_s,
        "memory_bytes": limits.memory_bytes,
    }


def _tagged(value: SqlValue) -> list[Any]:
    """A parameter's value as JSON, with its type if JSON doesn't have it."""
    if isinstance(value, datetime):
        return ["datetime", value.isoformat()]
    return ["date", value.isoformat()] if isinstance(value, date) else ["", value]


def _send(process: "subprocess.Popen[bytes]", request: Mapping[str, Any]) -> None:
    # A pipe, because other users of this machine can read command lines. It stays open: its end stops the process.
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()


def _wait(process: "subprocess.Popen[bytes]", limits: SqlLimits, began: float, stop: threading.Event | None) -> None:
    """Wait until the process ends. Raises SqlLimit when it takes too much, SqlError when `stop` is set."""
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        if time.monotonic() - began > limits.time_s:
            raise SqlLimit(f"The statement took longer than {limits.time_s:g} s and was stopped.", _LESS)
        if stop is not None and stop.is_set():
            raise SqlError("The statement was cancelled.")
        with contextlib.suppress(psutil.Error):
            if watched.memory_info().rss > limits.memory_bytes:
                raise _too_large(limits)
        time.sleep(_POLL_S)


def _too_large(limits: SqlLimits) -> SqlLimit:
    return SqlLimit(
        f"The statement took more than {limits.memory_bytes / 1e9:.1f} GB of memory and was stopped.", _LESS
    )


def _answer(folder: Path, limits: SqlLimits, settings: Settings) -> dict[str, Any]:
    """The answer of the process. Raises the error that it reports."""
    try:
        answer: dict[str, Any] = json.loads((folder / ANSWER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        if (folder / "log").read_bytes().find(b"ModuleNotFoundError") >= 0:
            raise DataError("The process that runs SQL can't start.", "Run it from the folder of the app.") from None
        raise _too_large(limits) from None  # it ends without an answer when the system refuses it memory
    if kind := answer.get("error"):
        if kind == "memory":
            raise _too_large(limits)
        if kind == "file":
            _delete_damaged(settings)
        if kind == "data":
            raise DataError(answer["message"], answer["fix"])
        error = SqlError(answer["message"], answer["fix"])
        error.line, error.column = answer["line"], answer["column"]
        raise error
    return answer


def _delete_damaged(settings: Settings) -> None:
    """Delete damaged copies of past days. Raises DataError if there were any."""
    engine = open_to_read(settings.database_url, settings.columns_dir)
    try:
        with reading(engine) as session:
            found = delete_damaged(session)
    finally:
        engine.dispose()
    if found:
        raise DataError("A copy of past days was deleted or is damaged.", "Run the statement again.")
