"""Sample calls for exports, created without a cache."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pbx.export import CallTranscript, RecordingTranscript, TranscriptLine
from pbx.model.segment import Word

STARTED_AT = datetime(2026, 7, 1, 7, 14, 5, tzinfo=UTC)  # 09:14 in Berlin
UNUSUAL_TEXTS = [
    'He said "yes" & <b>left</b>',
    "<script>alert(1)</script>",
    "00:00:01,000 --> 00:00:02,000",
    "emoji 👩‍👩‍👧 📞 and accents Zoë",
    "שלום, אני צריך עזרה",
    "مرحبا كيف حالك",
    "私の注文番号は一二三です",
    "tab\there, control \x00\x0b\x1b\x85 and half \ud83d of a pair, \ufffe",
    "two\n\nlines\r\n3\n",
    "]]> &amp; &lt; \\ % {c:d} {{x}}",
    "=1+1",
]


def sample_line(start_s: float, text: str, speaker: str = "Agent", **more: Any) -> TranscriptLine:
    return TranscriptLine(start_s=start_s, end_s=start_s + 2.5, text=text, speaker=speaker, **more)


def sample_call(
    *lines: TranscriptLine,
    call_id: int = 7,
    audio: Path | None = None,
    name: str = "2026/07/01/in-600",
    **more: Any,
) -> CallTranscript:
    more = {"summary": "The caller asked for a refund.", "facts": {"From": "+4930123", "Queue": "600"}} | more
    return CallTranscript(
        call_id=call_id,
        title="+4930123 → 600",
        started_at=STARTED_AT,
        zone=ZoneInfo("Europe/Berlin"),
        recordings=(RecordingTranscript(name=name, audio=audio, started_at=STARTED_AT, lines=tuple(lines)),),
        **more,
    )


def conversation(count: int = 2) -> CallTranscript:
    lines = [
        sample_line(2.5 * number, f"Sentence number {number}.", ("Agent", "Caller")[number % 2])
        for number in range(count)
    ]
    return sample_call(*lines)


def line_with_words() -> TranscriptLine:
    words = (Word(1.0, 1.4, "Good", 0.9), Word(1.4, 1.9, "bye.", 0.4))
    return sample_line(1.0, "Good bye.", words=words, confidence=0.7, original_text="Good pie.")
