"""Compares searching transcripts through the index with a plain LIKE scan for the same queries.

The calls are generated: over two years, with 20 segments of 9 words each, from 20,000 words with frequencies by Zipf's
law. Half of the segments are the caller's; one in 50 is flagged.

    python benchmarks/search.py [--calls 100000] [--keep DIR]
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from sqlalchemy import Engine

from pbx.settings import Settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import PbxConnection
from pbx.store.search_index import row_id_of
from pbx.transcription.search.hits import SearchFilter, count_hits, find_hits, trend

Result = TypeVar("Result")
SEGMENTS, WORDS, VOCABULARY = 20, 9, 20_000
START_AT = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 730
CHUNK = 2000  # calls in a transaction
PAGE = 50
SCAN = "SELECT count(*) FROM segments WHERE flags = '' AND ' ' || text || ' ' LIKE ?"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--calls", type=int, default=100_000)
    options.add_argument("--keep", type=Path, help="keep the database here, or use an existing one")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = chosen.keep or Path(folder)
        words = vocabulary()
        exists = (base / "pbx.sqlite").exists()
        engine = open_engine(Settings(_env_file=None, pbx_data_dir=base, pbx_database_url=None))
        if not exists:
            fill(engine, words, chosen.calls)
        print_sizes(engine)
        time_queries(engine, words)
        engine.dispose()


def vocabulary() -> list[str]:
    """Words of two to four syllables; the first are the most common."""
    choose = random.Random(1)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < VOCABULARY:
        words["".join(choose.choices(syllables, k=choose.randint(2, 4)))] = None
    return list(words)


def fill(engine: Engine, words: list[str], calls: int) -> None:
    began = time.perf_counter()
    chance = np.random.default_rng(1)
    shares = 1 / np.arange(1, VOCABULARY + 1)
    bounds = np.cumsum(shares / shares.sum())
    with writing(engine) as session:
        session.add(PbxConnection(host="bench"))
    for first in range(1, calls + 1, CHUNK):
        count = min(CHUNK, calls + 1 - first)
        word_numbers = bounds.searchsorted(chance.random((count * SEGMENTS, WORDS)))
        texts = [" ".join([words[min(one, VOCABULARY - 1)] for one in row]) for row in word_numbers.tolist()]
        with writing(engine) as session:
            add_calls(session.connection().connection, first, count, calls, texts)
    raw = engine.raw_connection()
    raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    print(f"{calls:,} calls with {calls * SEGMENTS:,} segments written in {time.perf_counter() - began:.0f} s")


def add_calls(database: Any, first: int, count: int, calls: int, texts: list[str]) -> None:
    start, apart_s = int(START_AT.timestamp()), DAYS * 86400 / calls
    ids = range(first, first + count)
    database.executemany(
        "INSERT INTO calls (id, connection_id, source, linkedid, uniqueid, direction, from_number, to_number, queue,"
        " agent, started_at, duration_s, state, transcription)"
        " VALUES (?, 1, 'freepbx', ?, '', ?, ?, ?, ?, ?, ?, 100, 'downloaded', 'completed')",
        (
            (
                *(
                    i,
                    str(i),
                    ("inbound", "outbound", "internal")[i % 3],
                    f"+4930{i * 7919 % 10**7:07}",
                    str(1000 + i % 500),
                ),
                *(f"queue-{i % 50}", f"PJSIP/{1000 + i % 200}", start + int(i * apart_s)),
            )
            for i in ids
        ),
    )
    database.executemany(
        "INSERT INTO recordings (id, connection_id, call_id, name, format, type, uniqueid, state, reason,"
        " file, listed_at) VALUES (?, 1, ?, ?, 'wav', 'q', '', 'downloaded', '', '', 0)",
        ((i, i, f"recording-{i}") for i in ids),
    )
    database.executemany(
        "INSERT INTO transcripts (id, recording_id, engine, model, language, audio_sha256, complete, current, channels,"
        " speech_s, done_s, created_at) VALUES (?, ?, 'whisper', 'base', 'en', '', 1, 1, 2, 60, 100, 0)",
        ((i, i) for i in ids),
    )
    rows = []
    for position, text in enumerate(texts):
        call, number = first + position // SEGMENTS, position % SEGMENTS
        speaker, flags = ("caller", "agent")[number % 2], "" if position % 50 else "phantom"
        rows.append(
            ((call - 1) * SEGMENTS + number + 1, call, number * 5.0, number * 5.0 + 4, number % 2, speaker, text, flags)
        )
    database.executemany(
        "INSERT INTO segments (id, transcript_id, start_s, end_s, channel, speaker, text, flags, confidence, words)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0.9, '[]')",
        rows,
    )
    for speaker in ("caller", "agent"):
        for flags, name in (("", speaker), ("phantom", f"{speaker}_doubted")):
            chosen = ((row_id_of(row[1], row[0]), row[6]) for row in rows if row[5] == speaker and row[7] == flags)
            database.executemany(f"INSERT INTO segment_index (rowid, {name}) VALUES (?, ?)", chosen)


def print_sizes(engine: Engine) -> None:
    with reading(engine) as session:
        query = (
            "SELECT CASE WHEN name LIKE 'segment_index%' THEN 'search index'"
            " WHEN name LIKE '%segments%' THEN 'segments'"
            " ELSE 'the rest' END, sum(pgsize) FROM dbstat WHERE aggregate = true GROUP BY 1"
        )
        for name, size in session.connection().exec_driver_sql(query):
            print(f"    {name:<14} {size / 1e6:7.0f} MB")


def time_queries(engine: Engine, words: list[str]) -> None:
    middle = START_AT + timedelta(days=DAYS / 2)
    month = {"since": middle, "until": middle + timedelta(days=30)}
    common, usual, rare = words[0], words[60], words[15_000]
    queries: dict[str, tuple[SearchFilter, str]] = {
        "a rare word": (SearchFilter(1, rare), f"% {rare} %"),
        "a common word": (SearchFilter(1, usual), f"% {usual} %"),
        "the most common word": (SearchFilter(1, common), f"% {common} %"),
        "a phrase": (SearchFilter(1, f'"{common} {words[1]}"'), f"% {common} {words[1]} %"),
        "a prefix*": (SearchFilter(1, f"{usual[:2]}*"), f"% {usual[:2]}%"),
        "two words near": (SearchFilter(1, f"NEAR({common} {usual}, 5)"), f"% {common} % {usual} %"),
        "common, a month": (SearchFilter(1, usual, **month), f"% {usual} %"),
        "common, a queue": (SearchFilter(1, usual, queue="queue-7"), f"% {usual} %"),
        "common, of a caller": (SearchFilter(1, usual, speaker="caller", number="+49301"), f"% {usual} %"),
    }
    print(
        f"{'':<20} {'segments':>9} {'calls':>8} {'count':>8} {'best 50':>8} {'newest 50':>9} {'by day':>8} {'LIKE':>8}"
    )
    with reading(engine) as session:
        for name, (wanted, pattern) in queries.items():
            count_s, (segments, calls) = timed(lambda wanted=wanted: count_hits(session, wanted))
            best_s, _ = timed(lambda wanted=wanted: find_hits(session, wanted, offset=0, limit=PAGE))
            newest_s, _ = timed(lambda wanted=wanted: find_hits(session, wanted, order="newest", offset=0, limit=PAGE))
            trend_s, _ = timed(lambda wanted=wanted: trend(session, wanted, "day", UTC))
            like_s, _ = timed(lambda like=pattern: session.connection().exec_driver_sql(SCAN, (like,)).scalar())
            took = f"{count_s:8.3f} {best_s:8.3f} {newest_s:9.3f} {trend_s:8.3f} {like_s:8.3f}"
            print(f"{name:<20} {segments:>9,} {calls:>8,} {took}", flush=True)


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    main()
