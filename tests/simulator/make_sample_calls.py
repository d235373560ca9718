"""Makes the demo's recordings and timed transcripts from the scripts, with espeak-ng.

Run `make demo-recordings` and commit the result. The same scripts and version of espeak-ng give the same bytes.
"""

import ctypes
import ctypes.util
import itertools
import json
import math
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pbx.demo.sample_recordings import CHANNELS, SAMPLE_RECORDINGS
from pbx.errors import PbxError
from tests.simulator.call_scripts import CALL_SCRIPTS, CallScript, Voice

HZ = 8_000
VoiceSamples = NDArray[np.float64]  # (samples,) or (channels, samples) at HZ, -1 to 1

_BAND_HZ = (250.0, 300.0, 3400.0, 3700.0)  # the telephone's; between the first two and the last two it fades
_LOUDNESS = 0.12  # root mean square of speech, -18 dB of full scale
_HEARD = 0.01  # a window of 10 ms above this is sound, -40 dB
_TAIL_S = 0.4  # silence after the last word
_NOTES = (0, 4, 7, 12, 7, 4, 2, 5, 9, 14, 9, 5, -1, 2, 7, 11, 7, 2, 0, 4, 7, 12, 7, 4)  # semitones above middle C

_SYNCHRONOUS, _UTF8, _WORD = 2, 1, 1  # AUDIO_OUTPUT_SYNCHRONOUS, espeakCHARS_UTF8, espeakEVENT_WORD
_RATE, _PITCH = 1, 3  # espeakRATE, espeakPITCH


class _EspeakEvent(ctypes.Structure):
    """espeak_EVENT of espeak-ng's speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Heard = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_EspeakEvent))


@dataclass(frozen=True, slots=True)
class Spoken:
    """A spoken line from its first sound to its last, with the time range of each word in seconds."""

    sound: VoiceSamples
    words: list[tuple[float, float, str]]


class Espeak:
    """The synthesiser's library. Raises PbxError where it is not installed."""

    def __init__(self) -> None:
        found = ctypes.util.find_library("espeak-ng")
        if found is None:
            raise PbxError("espeak-ng is not installed.", "Install it: `apt-get install espeak-ng`.")
        self._library = ctypes.CDLL(found)
        self._hz = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)
        self._pieces: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, float]] = []  # where a word begins in the text, and when, s
        self._heard = _Heard(self._hear)  # referenced here because the library calls it
        self._library.espeak_SetSynthCallback(self._heard)

    def _hear(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_EspeakEvent]"
    ) -> int:
        if samples and count:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in itertools.takewhile(lambda event: event.type, (events[i] for i in itertools.count())):
            if event.type == _WORD:
                self._events.append((event.text_position - 1, event.audio_position / 1000))
        return 0

    def say(self, text: str, voice: Voice) -> Spoken:
        """Speak a line with the bandwidth of a telephone. Raises PbxError for a voice that espeak-ng doesn't have."""
        if self._library.espeak_SetVoiceByName(voice.name.encode()):
            raise PbxError(f"espeak-ng has no voice {voice.name}.", "Fix scripts.toml.")
        self._library.espeak_SetParameter(_RATE, voice.words_per_min, 0)
        self._library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        self._pieces, self._events = [], []
        words, spelled = text.split(), [_spelled(word) for word in text.split()]
        data = " ".join(spelled).encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        sound = _narrowed(np.concatenate(self._pieces) / 32768, self._hz)
        first, last = _heard_span(sound)
        speech = sound[first:last]
        speech = speech * (_LOUDNESS / math.sqrt(float(np.mean(speech**2))))
        begins_s = [max(at_s - first / HZ, 0.0) for at_s in _beginnings(spelled, self._events)]
        return Spoken(speech, list(_spans(words, begins_s, speech)))


def _spelled(word: str) -> str:
    """A word as espeak-ng reads it: groups of four or more digits are read digit by digit."""
    return re.sub(r"\d{4,}", lambda group: " ".join("oh" if digit == "0" else digit for digit in group[0]), word)


def _beginnings(spelled: list[str], events: list[tuple[int, float]]) -> list[float]:
    """When each word starts. A word that espeak-ng joins to the previous one starts half-way to the next."""
    ends = list(itertools.accumulate(len(word) + 1 for word in spelled))
    starts: list[float | None] = [None] * len(spelled)
    for position, at_s in events:
        index = next((index for index, end in enumerate(ends) if position < end), len(spelled) - 1)
        if starts[index] is None:
            starts[index] = at_s
    starts[0] = starts[0] or 0.0
    found: list[float] = []
    for index, begin_s in enumerate(starts):
        if begin_s is None:
            after_s = next((later for later in starts[index:] if later is not None), found[-1] + 0.4)
            begin_s = (found[-1] + after_s) / 2
        found.append(begin_s)
    return found


def _spans(words: list[str], begins_s: list[float], sound: VoiceSamples) -> Iterator[tuple[float, float, str]]:
    """Each word from its start to its last audible sound before the next word."""
    ends_s = [*begins_s[1:], len(sound) / HZ]
    for word, begin_s, end_s in zip(words, begins_s, ends_s, strict=True):
        _, last = _heard_span(sound[round(begin_s * HZ) : round(end_s * HZ)])
        yield round(begin_s, 3), round(begin_s + last / HZ if last else end_s, 3), word


def _heard_span(sound: VoiceSamples) -> tuple[int, int]:
    """The first and last audible sample; (0, 0) for silence."""
    size = HZ // 100
    windows = np.sqrt(np.mean(np.pad(sound, (0, -len(sound) % size)).reshape(-1, size) ** 2, axis=1))
    loud = np.flatnonzero(windows > _HEARD)
    return (int(loud[0]) * size, min((int(loud[-1]) + 1) * size, len(sound))) if len(loud) else (0, 0)


def _narrowed(sound: VoiceSamples, hz: int) -> VoiceSamples:
    """The sound at 8 kHz with the telephone's band, by its spectrum."""
    spectrum = np.fft.rfft(sound)
    at_hz = np.fft.rfftfreq(len(sound), 1 / hz)
    spectrum *= np.interp(at_hz, _BAND_HZ, (0, 1, 1, 0), left=0, right=0)
    count = round(len(sound) * HZ / hz)
    return np.fft.irfft(spectrum[: count // 2 + 1], count) * (count / len(sound))


def make_hold(seconds: float) -> VoiceSamples:
    """Hold music: broken chords on something like a celesta, each note held until the next but one."""
    step_s, music = 0.5, np.zeros(round(seconds * HZ) + HZ)
    t = np.arange(HZ) / HZ
    for index in range(int(seconds / step_s)):
        hz = 261.63 * 2 ** (_NOTES[index % len(_NOTES)] / 12)
        note = sum((np.sin(2 * np.pi * k * hz * t) / k**1.5 for k in (1, 2, 3)), np.zeros(HZ)) * np.exp(-1.5 * t)
        music[index * HZ // 2 :][:HZ] += note * np.minimum(t / 0.01, 1) * np.minimum((1 - t) / 0.05, 1)
    return music[: round(seconds * HZ)] * 0.14


def make_ring(seconds: float) -> VoiceSamples:
    """Ring-back, in the cadence of British exchanges (ITU-T E.180): 0.4 s, 0.2 s of pause, 0.4 s, 2 s of pause."""
    t = np.arange(round(seconds * HZ)) / HZ
    on = (t % 3 < 0.4) | ((t % 3 >= 0.6) & (t % 3 < 1.0))
    return np.sin(2 * np.pi * 425 * t) * on * 0.15


def make_beep(seconds: float) -> VoiceSamples:
    """The tone after which a mailbox records."""
    t = np.arange(round(seconds * HZ)) / HZ
    return np.sin(2 * np.pi * 1000 * t) * 0.2


def make_recording(call_script: CallScript, espeak: Espeak) -> tuple[VoiceSamples, list[dict[str, Any]]]:
    """The sound (2, samples) and its segments: {start_s, end_s, speaker, text, words: [[start_s, end_s, text]], flags}.

    Raises PbxError when it is not as long as the script says.
    """
    sounds = {"hold": make_hold, "ring": make_ring, "beep": make_beep}
    flags = {"hold": ["music"], "ring": ["ringing"]}
    sound = np.zeros((2, call_script.duration_s * HZ))
    segments: list[dict[str, Any]] = []
    at_s = 0.0
    for line in call_script.lines:
        speaker, words = line.kind, list[list[object]]()
        if line.text:
            spoken = espeak.say(line.text, call_script.voices[line.kind])
            wave, at_s = spoken.sound, max(at_s + line.seconds, 0.0)
            words = [[round(at_s + start, 3), round(at_s + end, 3), word] for start, end, word in spoken.words]
        else:
            speaker = "agent"  # the caller hears it
            wave = sounds[line.kind](line.seconds) if line.kind in sounds else np.zeros(round(line.seconds * HZ))
        at_s = round(at_s, 3)
        first = round(at_s * HZ)
        room = sound[CHANNELS[speaker], first : first + len(wave)]
        room += wave[: len(room)]
        end_s = round(at_s + len(wave) / HZ, 3)
        if line.text or line.kind in flags:
            segments.append(
                {"start_s": at_s, "end_s": end_s, "speaker": speaker, "text": line.text, "words": words}
                | {"flags": flags.get(line.kind, [])}
            )
        at_s = end_s
    needed_s = math.ceil(at_s + _TAIL_S)
    if needed_s != call_script.duration_s:
        raise PbxError(f"{call_script.name} lasts {needed_s} s.", f"Write duration_s = {needed_s} into scripts.toml.")
    return sound, sorted(segments, key=lambda segment: float(segment["start_s"]))


def to_wav(sound: VoiceSamples) -> bytes:
    """(channels, samples) as a WAV of G.711 µ-law: RIFF with `fmt `, `fact` and `data`, as its format 7 asks for."""
    linear = np.clip(np.round(sound.T * 32767), -32635, 32635).astype(np.int32)
    magnitude = np.abs(linear) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 15
    data: bytes = (~((linear < 0) * 128 | exponent << 4 | mantissa) & 255).astype(np.uint8).tobytes()
    channels, samples = sound.shape
    body: bytes = struct.pack("<4sIHHIIHHH", b"fmt ", 18, 7, channels, HZ, HZ * channels, channels, 8, 0)
    body += struct.pack("<4sII", b"fact", 4, samples) + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WAVE") + body


def main() -> int:
    """Make all recordings, and report scripts with a wrong length."""
    espeak, wrong = Espeak(), 0
    for name, call_script in CALL_SCRIPTS.items():
        try:
            sound, segments = make_recording(call_script, espeak)
        except PbxError as error:
            print(f"{error} {error.fix}", file=sys.stderr)
            wrong += 1
            continue
        file = SAMPLE_RECORDINGS[name].sound
        file.write_bytes(to_wav(sound))
        lines = ",\n".join(json.dumps(segment, ensure_ascii=False) for segment in segments)
        file.with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        print(f"{name}: {call_script.duration_s} s, {file.stat().st_size:,} bytes")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
