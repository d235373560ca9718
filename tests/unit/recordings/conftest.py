"""These tests have a PBX that never answers, or one that is replayed."""

from tests.unit.recordings.sync_bench import bench
from tests.unit.unreachable_pbx import settings

__all__ = ["bench", "settings"]
