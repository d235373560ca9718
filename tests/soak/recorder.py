"""Adds recordings to the simulated PBX: complete ones, ones that grow during a call, and ones that are deleted soon."""

import hashlib
import random
import struct
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.simulator.simulated_recordings import SimulatedRecordings

RATE_BYTES = 16_000  # a second of 8 kHz, 16 bit, mono
LARGEST_MB = 6  # the app's limit for downloads
_GROW_EVERY_S = 1.0


def wav(sound: bytes, *, finished: bool = True) -> bytes:
    """A WAV file as Asterisk writes it: both lengths are 0 until the call ends."""
    size = len(sound) if finished else 0
    riff = 36 + size if finished else 0
    return (
        struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", riff, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", size) + sound
    )


class Recorder:
    """Adds, grows, finishes and deletes recordings in a thread until it is closed.

    `recorded` has the SHA-256 of each recording that was ever complete, by name. `deleted` has the names of deleted
    ones, `too_large` of those larger than LARGEST_MB. Complete ones are stored in `folder`, so that the memory of the
    simulated PBX doesn't grow.
    """

    def __init__(self, recordings: SimulatedRecordings, folder: Path, seed: int, every_s: float) -> None:
        self.recorded = {name: hashlib.sha256(recordings.content(name)).hexdigest() for name in recordings.names()}
        self.deleted: set[str] = set()
        self.too_large: set[str] = set()
        self._recordings, self._folder, self._every_s = recordings, folder, every_s
        self._chance = random.Random(seed)
        self._growing: dict[str, tuple[bytes, float]] = {}  # by name: the sound so far, and when the call ends
        self._serial = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for name in list(self._growing):
            self._finish(name)

    def _run(self) -> None:
        due = 0.0
        while not self._stop.wait(_GROW_EVERY_S):
            for name, (sound, ends_at) in list(self._growing.items()):
                self._growing[name] = (sound + self._new_sound(), ends_at)
                self._recordings.finish(name, wav(self._growing[name][0], finished=False))
                if time.monotonic() >= ends_at:
                    self._finish(name)
            if time.monotonic() >= due:
                due = time.monotonic() + self._chance.uniform(0.5, 1.5) * self._every_s
                self._do_something()

    def _do_something(self) -> None:
        name = self._new_name()
        complete = sorted(self.recorded.keys() - self.deleted)
        match self._chance.choices(("complete", "growing", "delete", "long", "huge"), (12, 6, 2, 2, 1))[0]:
            case "growing":
                self._growing[name] = (b"", time.monotonic() + self._chance.uniform(3, 20))
                self._recordings.add(name, wav(b"", finished=False))
            case "delete" if len(complete) > 5:
                deleted = self._chance.choice(complete[-5:])  # the app may be downloading the newest
                self.deleted.add(deleted)
                self._recordings.delete(deleted)
            case "long":
                self._add_complete(name, wav(self._chance.randbytes(RATE_BYTES) * 120))
            case "huge":
                self.too_large.add(name)
                self._add_complete(name, wav(bytes(LARGEST_MB * 1_000_000)))
            case _:
                self._add_complete(name, wav(self._chance.randbytes(self._chance.randint(1, 20) * RATE_BYTES // 2)))

    def _add_complete(self, name: str, content: bytes) -> None:
        self.recorded[name] = hashlib.sha256(content).hexdigest()
        file = self._folder / f"{len(self.recorded)}.wav"
        file.write_bytes(content)
        self._recordings.add(name, file)

    def _finish(self, name: str) -> None:
        sound, _ = self._growing.pop(name)
        content = wav(sound or b"\1\2")
        self._recordings.finish(name, content)  # for downloads in progress
        self._add_complete(name, content)

    def _new_sound(self) -> bytes:
        return self._chance.randbytes(RATE_BYTES // 4)

    def _new_name(self) -> str:
        self._serial += 1
        at = datetime.now(UTC)
        kind = self._chance.choice(
            (f"q-60{self._chance.randrange(3)}", "out-07700900123", "exten-201", "odd Zoë's #1 ")
        )
        number = f"0207946{self._chance.randrange(10_000):04}"
        uniqueid = f"{int(at.timestamp())}.{900_000 + self._serial}"  # no simulated call has so high a number
        return f"{at:%Y/%m/%d}/{kind}-{number}-{at:%Y%m%d-%H%M%S}-{uniqueid}"
