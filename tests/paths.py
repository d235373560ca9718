"""Paths of the project's root and of the fixtures, which contain the bytes that real systems sent."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures"
