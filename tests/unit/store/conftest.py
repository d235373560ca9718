"""These tests run on SQLite, and in the lab on a real PostgreSQL as well."""

from tests.unit.both_databases import cache_of_postgres, postgres, settings

__all__ = ["cache_of_postgres", "postgres", "settings"]
