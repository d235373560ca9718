"""Run these tests on SQLite, and in the lab also on a real PostgreSQL."""

from tests.unit.both_databases import cache_of_postgres, postgres, settings

__all__ = ["cache_of_postgres", "postgres", "settings"]
