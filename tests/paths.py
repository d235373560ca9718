"""Paths: the project's root, and the fixtures with bytes that real systems sent."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
