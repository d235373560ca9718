"""Places calls with speech: espeak-ng speaks the phrases, and Asterisk plays and records them."""

import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from tests.lab.calls import PlacedCall, start_queue_call
from tests.lab.servers import LabServer
from tests.unit.speech.synthetic_speech import Clip

RATE_HZ = 8000
PAUSE_S = 1.2  # between two phrases of one side, so that the voice detector finds two spans
FOLDER = "var/spool/asterisk/speech"
_serial = count()


@dataclass(frozen=True)
class SpokenCall:
    """A queue call, and the phrases that the caller and the agent speak in it."""

    call: PlacedCall
    caller: tuple[Clip, ...]
    agent: tuple[Clip, ...]


def write_speech(server: LabServer, clips: Sequence[Clip], first_s: float, every_s: float | None = None) -> str:
    """Write one side's phrases to a sound file, and return its name for the dialplan.

    The first phrase starts at `first_s`, each following one `every_s` after the start of the phrase before, or
    PAUSE_S after its end if `every_s` is None.
    """
    sound = np.zeros(0, np.float32)
    for number, clip in enumerate(clips):
        at_s = first_s if not number else (first_s + number * every_s if every_s else len(sound) / RATE_HZ + PAUSE_S)
        silence = np.zeros(max(round(at_s * RATE_HZ) - len(sound), 0), np.float32)
        sound = np.concatenate([sound, silence, clip.sound[::2]])  # nothing in the clip is above 4 kHz
    sound = np.concatenate([sound, np.zeros(60 * RATE_HZ, np.float32)])  # Asterisk repeats the file when it ends
    folder = server.root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    name = f"speech-{next(_serial)}"
    with wave.open(str(folder / f"{name}.wav"), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return f"/{FOLDER}/{name}"


def place_spoken_call(
    server: LabServer, caller: Sequence[Clip], agent: Sequence[Clip], *, in_turns: bool = False, legs: bool = False
) -> SpokenCall:
    """Place a complete queue call in which both sides speak.

    With `in_turns` the agent begins and they alternate; otherwise both speak from the start. With `legs` each side is
    also recorded to its own file.
    """
    longest_s = max(len(clip.sound) for clip in (*caller, *agent)) / 16_000
    turn_s = longest_s + PAUSE_S
    if in_turns:
        speech = write_speech(server, caller, 1.0 + turn_s, 2 * turn_s), write_speech(server, agent, 1.0, 2 * turn_s)
    else:
        speech = write_speech(server, caller, 3.0), write_speech(server, agent, 1.0)
    talk_s = 5 + max(len(caller), len(agent)) * (2 if in_turns else 1) * turn_s
    settings: dict[str, Any] = {"CALLER_SAYS": speech[0], "AGENT_SAYS": speech[1], "TALK_S": round(talk_s)}
    if legs:
        settings["LEGS"] = 1
    call = start_queue_call(server, "sales", "answered", **settings)
    call.wait_end(talk_s + 60)
    return SpokenCall(call, tuple(caller), tuple(agent))


def place_spoken_calls(server: LabServer, clips: Sequence[Clip], calls: int) -> list[SpokenCall]:
    """Play the clips in concurrent calls, half of them on each side. Each side is also recorded to its own file."""
    shares = [clips[number::calls] for number in range(calls)]
    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(lambda share: place_spoken_call(server, share[::2], share[1::2], legs=True), shares))
