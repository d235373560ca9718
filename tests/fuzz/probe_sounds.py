"""Reads every file of a folder as sound, in a process of its own that may die of it: what became of each, as JSON.

`python -m tests.fuzz.probe_sounds FOLDER` prints a line before and behind each file, so that the last line names the
one at which it died; last of all the memory that it took beyond that of the first file, a good one, in kB.
"""

import json
import resource
import signal
import sys
from pathlib import Path

from pbx.errors import DataError
from pbx.recordings.playable import render_playable, waveform
from pbx.speech.audio import probe_audio, read_sound

LONGEST_S = 20  # for a file of a few kB; then the kernel ends this
MOST_BYTES = 6 * 2**30  # of address space, of which libraries reserve much


def read(path: Path) -> str:
    try:
        facts = probe_audio(path)
        samples = sum(block.shape[1] for block in read_sound(path))
        waveform(path, path.parent / "waves")
        render_playable(path, path.parent / "waves")
    except DataError as error:
        return f"refused: {error.advice}"
    return f"read: {facts.duration_s:.3f} s, {facts.channels} channels, {samples} samples"


def main(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    usual_kb = 0
    for path in sorted(folder.glob("*.*")):
        print(json.dumps([path.name]), flush=True)
        signal.alarm(LONGEST_S)
        print(json.dumps([path.name, read(path)]), flush=True)
        usual_kb = usual_kb or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - usual_kb)


main(Path(sys.argv[1]))
