"""Synthetic test speech: espeak-ng speaks sentences of the test checkpoint's small grammar in telephone quality."""

import random
import re
import shutil
import subprocess
import zlib
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt

from pbx.speech.audio import load_sound
from tests.paths import FIXTURES

FIXTURES = FIXTURES / "speech"
CHECKPOINT = FIXTURES / "micro-whisper.pt"
HAS_ESPEAK = shutil.which("espeak-ng") is not None

_DEPARTMENTS = ("sales", "support", "billing", "reception")
_NAMES = ("Alice", "Bob", "Carol", "David", "Emma", "Frank", "Helen", "Peter")
_THINGS = ("invoice", "order", "account", "phone", "refund")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SENTENCES = (
    "Thank you for calling {department}.",
    "This is {name} from {department}.",
    "My name is {name}.",
    "My account number is {digits}.",
    "Your order number is {digits}.",
    "Please hold while I transfer your call.",
    "I will transfer you to {name} in {department}.",
    "Can I speak to {name} please?",
    "The extension is {extension}.",
    "I need help with my {thing}.",
    "Goodbye {name}.",
    "Yes that is correct.",
    "No thank you.",
    "I want to cancel my {thing}.",
    "Press {digit} for {department}.",
    "Hello {name} how can I help you?",
)
_FIXED = {"Please hold while I transfer your call.", "Yes that is correct.", "No thank you."}
_ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-gb-x-gbclan")
# Voice variants: those that the checkpoint was trained on, and two others.
_TRAINED_VOICES = ("m1", "m2", "m3", "m4", "m6", "m7", "f1", "f2", "f4")
_HELD_OUT_VOICES = ("m5", "f3")


@dataclass(frozen=True)
class Clip:
    """A spoken sentence: float32 at 16 kHz without frequencies above 4 kHz."""

    text: str
    voice: str
    sound: npt.NDArray[np.float32]


def _is_held_out(text: str) -> bool:
    """Whether a sentence is in the tenth that the checkpoint was not trained on."""
    return text not in _FIXED and zlib.crc32(text.encode()) % 10 == 0


def sentence(rng: random.Random, held_out: bool = False) -> str:
    """A random sentence of the grammar, from those in the checkpoint's training or those held out of it."""
    while True:
        text = rng.choice(_SENTENCES).format(
            department=rng.choice(_DEPARTMENTS),
            name=rng.choice(_NAMES),
            thing=rng.choice(_THINGS),
            digit=rng.choice(_DIGITS),
            digits=" ".join(rng.choice(_DIGITS) for _ in range(rng.randint(3, 5))),
            extension=" ".join(rng.choice(_DIGITS) for _ in range(3)),
        )
        if _is_held_out(text) == held_out:
            return text


def say(text: str, voice: str = "en-us+m1", speed: int = 150, pitch: int = 50) -> npt.NDArray[np.float32]:
    """Speak a text as narrow-band float32 at 16 kHz, with silence at both ends cut to 20 ms."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    spoken = np.frombuffer(wav[44:], dtype="<i2").astype(np.float32) / np.float32(32768)
    sound = _resample(_resample(spoken, 22_050, 8_000), 8_000, 16_000)
    loud = np.flatnonzero(np.convolve(np.abs(sound), np.ones(160, np.float32) / 160, "same") > 1e-3)
    return sound[max(0, loud[0] - 320) : loud[-1] + 320]


def clips(count: int, held_out: bool = False, seed: int = 1) -> list[Clip]:
    """Random sentences by random voices: both from the checkpoint's training, or both held out of it."""
    rng = random.Random(seed)
    spoken_clips = []
    for _ in range(count):
        text = sentence(rng, held_out)
        voice = f"{rng.choice(_ACCENTS)}+{rng.choice(_HELD_OUT_VOICES if held_out else _TRAINED_VOICES)}"
        speed = rng.choice((130, 145, 160, 175)) if held_out else rng.randint(125, 185)
        spoken_clips.append(Clip(text, voice, say(text, voice, speed, rng.randint(30, 70))))
    return spoken_clips


def stored_clips() -> list[Clip]:
    """The clips in the fixtures, which need no espeak-ng: eight from the training and four held out."""
    rows = [line.split("\t") for line in (FIXTURES / "clips.tsv").read_text().splitlines()]
    return [Clip(text, voice, load_sound(FIXTURES / name)[0]) for name, voice, text in rows]


def store_clips() -> None:
    """Write the fixtures again, as µ-law at 8 kHz like on the telephone."""
    rows = []
    for index, clip in enumerate(clips(8, seed=23) + clips(4, held_out=True, seed=24), 1):
        name = f"clip-{index:02}.ulaw"
        with av.open(str(FIXTURES / name), "w", format="mulaw") as output:
            stream = output.add_stream("pcm_mulaw", rate=8_000, layout="mono")
            frame = av.AudioFrame.from_ndarray(clip.sound[None], format="flt", layout="mono")
            frame.sample_rate = 16_000
            resampler = av.AudioResampler(format="s16", layout="mono", rate=8_000)
            for input_frame in (frame, None):
                for part in resampler.resample(input_frame):
                    output.mux(stream.encode(part))
            output.mux(stream.encode(None))
        rows.append(f"{name}\t{clip.voice}\t{clip.text}\n")
    (FIXTURES / "clips.tsv").write_text("".join(rows))


def words_of(text: str) -> list[str]:
    """The words of a text for comparison: lower case, letters only."""
    return re.sub(r"[^a-z ]", "", text.lower()).split()


def errors_in(spoken_text: str, transcribed_text: str) -> tuple[int, int]:
    """The number of wrong, missing and extra words (Levenshtein distance), and of spoken words."""
    expected, found = words_of(spoken_text), words_of(transcribed_text)
    row = list(range(len(found) + 1))
    for i, word in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1], len(expected)


def _resample(sound: npt.NDArray[np.float32], from_hz: int, to_hz: int) -> npt.NDArray[np.float32]:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), format="flt", layout="mono")
    frame.sample_rate = from_hz
    parts = [part.to_ndarray()[0] for input_frame in (frame, None) for part in resampler.resample(input_frame)]
    return np.concatenate(parts).astype(np.float32)


if __name__ == "__main__":
    store_clips()
