"""Settings for a PBX that never answers, and a test bench with a replayed PBX."""

from tests.unit.recordings.sync_bench import bench
from tests.unit.unreachable_pbx import settings

__all__ = ["bench", "settings"]
