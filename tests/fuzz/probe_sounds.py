"""Reads all files of a folder as sound, in a separate process that may crash.

`python -m tests.fuzz.probe_sounds FOLDER` prints a line of JSON before and after each file, so
after a crash the last line names the file. The line after a file has the result. The final line is the peak memory in
kB beyond that of the first file, which is a good one.
"""

import json
import resource
import signal
import sys
from pathlib import Path

from pbx.errors import DataError
from pbx.recordings.playable import render_playable, waveform
from pbx.speech.audio import probe_audio, read_sound

LONGEST_S = 20  # for a file of a few kB; then SIGALRM ends this process
MOST_BYTES = 6 * 2**30  # of address space, of which libraries reserve a large part


def read(path: Path) -> str:
    """Read a file in every way the app does. Return what was read, or why it was refused."""
    try:
        audio = probe_audio(path)
        samples = sum(block.shape[1] for block in read_sound(path))
        waveform(path, path.parent / "waves")
        render_playable(path, path.parent / "waves")
    except DataError as error:
        return f"refused: {error.advice}"
    return f"read: {audio.duration_s:.3f} s, {audio.channels} channels, {samples} samples"


def main(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    baseline_kb = 0
    for path in sorted(folder.glob("*.*")):
        print(json.dumps([path.name]), flush=True)
        signal.alarm(LONGEST_S)
        print(json.dumps([path.name, read(path)]), flush=True)
        baseline_kb = baseline_kb or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - baseline_kb)


main(Path(sys.argv[1]))
