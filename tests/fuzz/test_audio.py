"""Mutated sound files are read or refused with a reason, without a crash, a hang or much memory."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbx.errors import DataError
from pbx.recordings.playable import render_playable
from pbx.speech.audio import load_sound, probe_audio
from tests.fuzz.mutations import EDGE_CASES, EXAMPLES
from tests.paths import FIXTURES

SEEDS = sorted((FIXTURES / "audio").glob("tone.*"))
FIELDS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0", b"\xff\xff", b"\0\0")


def mutate(data: bytearray, chance: random.Random) -> None:
    """Change a file in place, mostly in the header with the format, rates and lengths."""
    for _ in range(chance.randint(1, 6)):
        most = min(len(data), 64 if chance.random() < 0.7 else 10**6)
        at = chance.randrange(most + 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 4] = chance.choice(FIELDS)
            case 1:
                data[at : at + 1] = chance.randbytes(1)
            case 2:
                del data[at : at + chance.choice((1, 4, 44, 1000))]
            case 3:
                data[at:at] = chance.choice(EDGE_CASES)
            case 4:
                data[at:at] = data[chance.randrange(most + 1) :][: chance.choice((2, 8, 400))]


def mutated_files(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Write one good file, then yield mutated files of all formats. The same seed gives the same files."""
    chance = random.Random(seed)
    (folder / "000000-good.wav").write_bytes((FIXTURES / "audio" / "tone.wav").read_bytes())
    for number in range(1, count + 1):
        seed_file = chance.choice(SEEDS)
        data = bytearray(seed_file.read_bytes())
        mutate(data, chance)
        suffix = seed_file.suffix if chance.random() < 0.8 else chance.choice(SEEDS).suffix
        path = folder / f"{number:06}{suffix}"
        path.write_bytes(data)
        yield path


def test_mutated_sounds_are_read_or_refused(tmp_path: Path) -> None:
    files = list(mutated_files(tmp_path, 3 * EXAMPLES, seed=1))
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.probe_sounds", str(tmp_path)], capture_output=True, text=True, check=False
    )
    *lines, last = run.stdout.splitlines()
    assert run.returncode == 0, f"{last} {run.stderr[-2000:]}"
    results = dict(pair for line in lines if len(pair := json.loads(line)) == 2)
    assert len(results) == len(files) + 1
    kinds = {text.partition(":")[0] for text in results.values()}
    assert kinds == {"read", "refused"}
    assert all(text.endswith(".") for text in results.values() if text.startswith("refused"))
    assert int(last) < 200_000, "kB more than for a good file"


def test_random_bytes_are_read_or_refused(tmp_path: Path) -> None:
    chance = random.Random(2)
    headers = (
        b"",
        b"RIFF",
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"OggS",
        b"ID3",
        b".snd",
        b"\x1aE\xdf\xa3",
        b"\xff\xfb",
        b"RF64",
    )
    (tmp_path / "0.wav").write_bytes((FIXTURES / "audio" / "tone.wav").read_bytes())
    for number in range(EXAMPLES):
        suffix = chance.choice([seed.suffix for seed in SEEDS])
        (tmp_path / f"1{number:05}{suffix}").write_bytes(
            chance.choice(headers) + chance.randbytes(chance.choice((0, 20, 3000)))
        )
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.probe_sounds", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{run.stdout[-300:]} {run.stderr[-2000:]}"
    assert int(run.stdout.splitlines()[-1]) < 200_000


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (20, b"\x99\x99", "no sound format that this app knows"),
        (22, b"\x1b\0", "16,000 Hz, 27 channels"),  # PyAV would read planes that don't exist, and crash the process
        (24, b"\0\0\0\x37", "922,746,880 Hz"),  # a resampler would need half a gigabyte
        (24, b"\x01\0\0\0", "1 Hz"),
    ],
)
def test_impossible_values_in_a_header_are_refused(offset: int, value: bytes, reason: str, tmp_path: Path) -> None:
    data = bytearray((FIXTURES / "audio" / "tone.wav16").read_bytes())
    data[offset : offset + len(value)] = value
    (tmp_path / "x.wav").write_bytes(data)
    for read in (probe_audio, load_sound, lambda path: render_playable(path, tmp_path)):
        with pytest.raises(DataError, match=reason) as caught:
            read(tmp_path / "x.wav")
        assert caught.value.fix
