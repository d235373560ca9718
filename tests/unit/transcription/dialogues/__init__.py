"""Calls as they go, written for these tests: short, in several languages, with much that says nothing."""

from pathlib import Path

from pbx.transcription.analysis.run import SpokenSegment


def read_dialogue(name: str) -> list[SpokenSegment]:
    """One of the texts here: a line is "start end speaker words", with - for a speaker not known."""
    lines = (Path(__file__).parent / f"{name}.txt").read_text("utf-8").splitlines()
    parts = (line.split(" ", 3) for line in lines if not line.startswith("#"))
    return [SpokenSegment(float(start), float(end), speaker.strip("-"), text) for start, end, speaker, text in parts]
