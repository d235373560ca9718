"""Checks that SQL of an analyst only reads the documented views, and gives its errors a position and a suggestion.

It looks at the statement as DuckDB parses it, before any of it is bound or run.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import duckdb

from pbx.analytics.view_descriptions import VIEWS
from pbx.errors import SqlError

_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLES = frozenset(
    {"SUBQUERY", "JOIN", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF", "BASE_TABLE", "TABLE_FUNCTION"}
)
TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "repeat", "repeat_row", "json_each", "json_tree"})
# Functions that read settings, run text as SQL, or change something.
_REFUSED_FUNCTIONS = frozenset(
    {
        *("current_setting", "getvariable", "json_serialize_plan", "json_execute_serialized_sql", "write_log"),
        *("nextval", "currval", "setval", "getenv", "query", "query_table"),
    }
)
_OWN_NAME = re.compile(r"(?:pbx|rows)_.*|.*[/\\:*?.\[].*", re.IGNORECASE | re.DOTALL)
_SUGGESTION = re.compile(r"\n(?:Candidate|Did you mean|\tCandidate).*", re.DOTALL)
_ONLY_READS = "Only statements that read are possible: SELECT, or WITH … SELECT, FROM, VALUES, DESCRIBE, SUMMARIZE."
VIEWS_HINT = "python -m pbx query --views describes the views."


def check_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """The views that a statement reads. Raises SqlError for one that isn't a single SELECT of documented views."""
    try:
        statements = connection.extract_statements(sql)
        if not statements:
            raise SqlError("The statement is empty.", VIEWS_HINT)
        if len(statements) > 1 and statements[0].type != duckdb.StatementType.MULTI:
            raise SqlError("There are several statements.", "Run one statement at a time.")
        if statements[0].type == duckdb.StatementType.MULTI:
            raise SqlError("PIVOT needs the values of its columns.", "Write them: PIVOT … ON queue IN ('601', '602').")
        if statements[0].type != duckdb.StatementType.SELECT:
            raise SqlError(f"{statements[0].type.name.replace('_', ' ')} is not possible here.", _ONLY_READS)
        ((text,),) = connection.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchall()
    except duckdb.Error as error:
        raise sql_error(error, sql) from None
    parsed = json.loads(text)
    if parsed.get("error", True):
        raise SqlError("This statement can't be checked.", _ONLY_READS)
    check = _Check(sql)
    try:
        check.visit(parsed["statements"])
    except RecursionError:
        raise SqlError("The statement is nested too deeply.", "Simplify it.") from None
    return check.views()


def check_parameters(expected: Iterable[str], given: Iterable[str]) -> None:
    """Raise SqlError if a parameter of a statement has no value, or a value no parameter."""
    missing, excess = sorted({*expected} - {*given}), sorted({*given} - {*expected})
    if missing:
        raise SqlError(f"The parameter ${missing[0]} has no value.", f"Add --param {missing[0]}=VALUE.")
    if excess:
        raise SqlError(f"The statement has no parameter ${excess[0]}.", f"Write ${excess[0]} where its value belongs.")


def sql_error(error: Exception, sql: str, before: int = 0) -> SqlError:
    """An error of DuckDB as a sentence with its line and column, and with similar names.

    `before`: how many bytes preceded the statement.
    """
    text = str(error)
    try:
        found: dict[str, Any] = json.loads(text[text.index("{") :], strict=False)
        message = str(found["exception_message"])
    except (ValueError, KeyError):
        return SqlError(_sentence(text.partition(": ")[2] or text))
    names = [name for name in str(found.get("candidates", "")).split(",") if name]
    if found.get("error_subtype") == "COLUMN_NOT_FOUND":
        names = _columns_of(sql, names)
    fix = _did_you_mean(str(found.get("name", "")), names)
    known = str(found.get("position", "")).isdigit() and int(found["position"]) >= before
    place = position(sql, int(found["position"]) - before) if known else (None, None)
    return SqlError(_sentence(_SUGGESTION.sub("", message)), fix, *place)


def position(sql: str, offset: int) -> tuple[int, int]:
    """The line and the column, from 1, of a byte of a statement in UTF-8."""
    before = sql.encode()[:offset].decode(errors="ignore")
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _columns_of(sql: str, names: list[str]) -> list[str]:
    """Columns that could be meant: those that DuckDB names, then those of views that the statement mentions."""
    mentioned = [view for name, view in VIEWS.items() if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
    return [*names, *(column.name for view in mentioned for column in view.columns)]


def _did_you_mean(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), [one.lower() for one in names], n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""


def _sentence(text: str) -> str:
    text = text.strip().replace("INTERNAL Error: ", "")
    return text[:1000] if text.endswith((".", "!", "?")) else f"{text[:1000]}."


class _Check:
    """Walks through a parsed statement, and collects the names of its tables."""

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._tables: dict[str, int] = {}  # by name, where it is
        self._own: set[str] = set()  # names that the statement defines: WITH name AS …

    def views(self) -> list[str]:
        """The views among the tables. Raises SqlError for a table that is neither a view nor the statement's own."""
        for name, at in self._tables.items():
            if name not in VIEWS and name not in self._own:
                hint = _did_you_mean(name, [*VIEWS, *self._own])
                raise self._error(f"There is no view {name}.", at, hint or VIEWS_HINT)
        return [name for name in VIEWS if name in self._tables]

    def visit(self, part: Any) -> None:
        """Check a part of a parsed statement and all parts of it."""
        if isinstance(part, list):
            for each in part:
                self.visit(each)
        elif isinstance(part, dict):
            self._check(part)
            for each in part.values():
                self.visit(each)

    def _check(self, part: Mapping[str, Any]) -> None:
        kind, at = str(part.get("type", "")), int(part.get("query_location") or 0)
        if kind.endswith("_NODE") and kind not in _NODES:
            raise self._error("This changes data.", at, _ONLY_READS)
        if "sample" in part and not kind.endswith("_NODE") and kind not in _TABLES:
            raise self._error("This table is not possible here.", at, VIEWS_HINT)
        if kind == "BASE_TABLE":
            path = part.get("qualified_name", {}).get("path") or [part["table_name"]]
            if len(path) > 1:
                raise self._error(f"There is no table {'.'.join(path)}.", at, VIEWS_HINT)
            self._tables.setdefault(str(path[-1]).lower(), at)
        if kind == "SHOW_REF" and part.get("table_name"):
            raise self._error("SHOW is not possible here.", at, VIEWS_HINT)
        for name in (entry["key"] for entry in part.get("cte_map", {}).get("map", [])):
            self._define(str(name), at)
        if kind == "RECURSIVE_CTE_NODE" and part.get("cte_name"):
            self._define(str(part["cte_name"]), at)
        if "function_name" in part or kind == "TABLE_FUNCTION":
            self._check_function(part, kind, at)

    def _define(self, name: str, at: int) -> None:
        if _OWN_NAME.fullmatch(name):
            raise self._error(f"The name {name} is reserved.", at, "Use another name in WITH.")
        self._own.add(name.lower())

    def _check_function(self, part: Mapping[str, Any], kind: str, at: int) -> None:
        if kind == "TABLE_FUNCTION":
            name = str(part["function"].get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise self._error(f"{name}() is not possible in FROM.", at, f"Use a view. {VIEWS_HINT}")
        elif str(part["function_name"]).lower() in _REFUSED_FUNCTIONS:
            raise self._error(f"{part['function_name']}() is not possible here.", at, "Leave it out.")

    def _error(self, message: str, offset: int, fix: str) -> SqlError:
        known = 0 <= offset <= len(self._sql.encode())
        return SqlError(message, fix, *(position(self._sql, offset) if known else (None, None)))
