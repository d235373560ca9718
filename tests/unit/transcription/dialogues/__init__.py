"""Short calls written for these tests, in several languages and with as many filler words as real calls."""

from pathlib import Path

from pbx.transcription.analysis.run import SpokenSegment


def read_dialogue(name: str) -> list[SpokenSegment]:
    """Read a dialogue. Each line is "start end speaker words", with - for an unknown speaker."""
    lines = (Path(__file__).parent / f"{name}.txt").read_text("utf-8").splitlines()
    parts = (line.split(" ", 3) for line in lines if not line.startswith("#"))
    return [SpokenSegment(float(start), float(end), speaker.strip("-"), text) for start, end, speaker, text in parts]
