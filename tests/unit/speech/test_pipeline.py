"""A recording on its way: windows out, segments back in any order, parts in the recording's order."""

from pathlib import Path

import numpy as np
import pytest

from pbx.errors import DataError
from pbx.model.segment import Segment
from pbx.speech.audio_windows import Window
from pbx.speech.pipeline import RecordingInProgress
from pbx.speech.transcriber import TranscriptionSource
from tests.unit.speech.synthetic_speech import kept_clips
from tests.unit.speech.test_whisper import RATE_HZ, place, ring, silence, write_wav


def spoken(window: Window) -> list[Segment]:
    """What an engine might make of a window: a segment for each piece."""
    return [Segment(piece.start_s, piece.end_s, window.channel, "words") for piece in window.pieces]


def test_who_says_little_does_not_hold_up_the_other(tmp_path: Path) -> None:
    clips = kept_clips()
    talker = place([(0.5 + 4 * i, clips[i % 8]) for i in range(88)], 355)
    path = write_wav(tmp_path / "x.wav", talker, place([(3.0, clips[3])], 355))
    recording, done = RecordingInProgress(0, TranscriptionSource(path)), []
    for windows in recording.listen():
        for window in windows:
            recording.take(window, spoken(window))
        recording.part()
        done.append(recording.done_s)
    assert done == sorted(done)
    assert done[2] > 100  # after three minutes of listening
    assert done[-1] == pytest.approx(355)


def test_parts_come_in_order_whatever_comes_back_first(tmp_path: Path) -> None:
    clips = kept_clips()
    sides = [place([(1.0 + 4 * i + 2 * side, clips[(i + side) % 8]) for i in range(20)], 85) for side in (0, 1)]
    recording = RecordingInProgress(3, TranscriptionSource(write_wav(tmp_path / "x.wav", *sides)), max_spans=1)
    windows = [window for given in recording.listen() for window in given]
    assert recording.part() is None or recording.done_s < 2
    parts = []
    for window in reversed(windows):
        recording.take(window, spoken(window))
        if part := recording.part():
            parts.append(part)
    starts = [s.start_s for part in parts for s in part.segments]
    assert starts == sorted(starts)
    assert len(starts) == sum(len(window.pieces) for window in windows)
    assert [part.is_last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert sum(part.voiced_s for part in parts) == pytest.approx(
        sum(piece.end_s - piece.start_s for window in windows for piece in window.pieces), abs=0.01
    )
    assert {part.source for part in parts} == {3}


def test_voice_within_ringing_goes_to_no_window(tmp_path: Path) -> None:
    clip = kept_clips()[0]
    sound = np.concatenate([ring(), silence(2), clip.sound, silence(1)])
    recording = RecordingInProgress(0, TranscriptionSource(write_wav(tmp_path / "x.wav", sound)))
    windows = [window for given in recording.listen() for window in given]
    assert [piece.start_s > 7 for window in windows for piece in window.pieces] == [True]
    for window in windows:
        recording.take(window, spoken(window))
    part = recording.part()
    assert part is not None
    assert [segment.flags for segment in part.segments] == [("ringing",), ()]


def test_continuing_after_the_end_yields_the_last_part(tmp_path: Path) -> None:
    recording = RecordingInProgress(0, TranscriptionSource(write_wav(tmp_path / "x.wav", silence(3)), None, 3.0))
    assert list(recording.listen()) == [[]]
    part = recording.part()
    assert part is not None
    assert (part.is_last, part.done_s, part.segments) == (True, 3.0, ())


def test_dual_mono_is_one_speaker(tmp_path: Path) -> None:
    sound = place([(1.0, kept_clips()[0])], 4)
    recording = RecordingInProgress(0, TranscriptionSource(write_wav(tmp_path / "x.wav", sound, sound)))
    assert [window.channel for given in recording.listen() for window in given] == [0]
    assert len(recording._tracks) == 1


def test_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"RIFF" + bytes(40))
    with pytest.raises(DataError):
        list(RecordingInProgress(0, TranscriptionSource(tmp_path / "x.wav")).listen())


def test_times_are_those_of_the_recording(tmp_path: Path) -> None:
    clip = kept_clips()[0]
    path = write_wav(tmp_path / "x.wav", place([(10.0, clip), (70.0, clip)], 75))
    for start_s in (0.0, 40.0):
        windows = [
            w for given in RecordingInProgress(0, TranscriptionSource(path, None, start_s)).listen() for w in given
        ]
        assert windows[-1].pieces[-1].start_s == pytest.approx(69.85, abs=0.15)
        assert windows[-1].pieces[-1].end_s == pytest.approx(70.15 + len(clip.sound) / RATE_HZ, abs=0.2)
