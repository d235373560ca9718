"""Settings for a PBX that never answers."""

from tests.unit.unreachable_pbx import settings

__all__ = ["settings"]
