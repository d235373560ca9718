"""A recording in progress yields windows, takes segments in any order and yields parts in order of time."""

from pathlib import Path

import numpy as np
import pytest

from pbx.errors import DataError
from pbx.model.segment import Segment
from pbx.speech.audio_windows import Window
from pbx.speech.pipeline import RecordingInProgress
from pbx.speech.transcriber import TranscriptionSource
from tests.unit.speech.synthetic_speech import stored_clips
from tests.unit.speech.test_whisper import RATE_HZ, place_clips, ring_back, silence, write_wav


def segments_for(window: Window) -> list[Segment]:
    """One segment for each piece of a window, as an engine could return."""
    return [Segment(piece.start_s, piece.end_s, window.channel, "words") for piece in window.pieces]


def test_a_channel_with_little_speech_does_not_delay_the_other(tmp_path: Path) -> None:
    clips = stored_clips()
    talker = place_clips([(0.5 + 4 * i, clips[i % 8]) for i in range(88)], 355)
    path = write_wav(tmp_path / "x.wav", talker, place_clips([(3.0, clips[3])], 355))
    recording, done = RecordingInProgress(0, TranscriptionSource(path)), []
    for windows in recording.listen():
        for window in windows:
            recording.take(window, segments_for(window))
        recording.part()
        done.append(recording.done_s)
    assert done == sorted(done)
    assert done[2] > 100  # after three minutes of listening
    assert done[-1] == pytest.approx(355)


def test_parts_are_in_order_in_whatever_order_segments_arrive(tmp_path: Path) -> None:
    clips = stored_clips()
    sides = [place_clips([(1.0 + 4 * i + 2 * side, clips[(i + side) % 8]) for i in range(20)], 85) for side in (0, 1)]
    recording = RecordingInProgress(3, TranscriptionSource(write_wav(tmp_path / "x.wav", *sides)), max_spans=1)
    windows = [window for yielded in recording.listen() for window in yielded]
    assert recording.part() is None or recording.done_s < 2
    parts = []
    for window in reversed(windows):
        recording.take(window, segments_for(window))
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


def test_voice_detected_within_ringing_is_in_no_window(tmp_path: Path) -> None:
    clip = stored_clips()[0]
    sound = np.concatenate([ring_back(), silence(2), clip.sound, silence(1)])
    recording = RecordingInProgress(0, TranscriptionSource(write_wav(tmp_path / "x.wav", sound)))
    windows = [window for yielded in recording.listen() for window in yielded]
    assert [piece.start_s > 7 for window in windows for piece in window.pieces] == [True]
    for window in windows:
        recording.take(window, segments_for(window))
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
    sound = place_clips([(1.0, stored_clips()[0])], 4)
    recording = RecordingInProgress(0, TranscriptionSource(write_wav(tmp_path / "x.wav", sound, sound)))
    assert [window.channel for yielded in recording.listen() for window in yielded] == [0]
    assert len(recording._tracks) == 1


def test_a_file_without_sound_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"RIFF" + bytes(40))
    with pytest.raises(DataError):
        list(RecordingInProgress(0, TranscriptionSource(tmp_path / "x.wav")).listen())


def test_windows_have_the_times_of_the_recording(tmp_path: Path) -> None:
    clip = stored_clips()[0]
    path = write_wav(tmp_path / "x.wav", place_clips([(10.0, clip), (70.0, clip)], 75))
    for start_s in (0.0, 40.0):
        windows = [
            w for yielded in RecordingInProgress(0, TranscriptionSource(path, None, start_s)).listen() for w in yielded
        ]
        assert windows[-1].pieces[-1].start_s == pytest.approx(69.85, abs=0.15)
        assert windows[-1].pieces[-1].end_s == pytest.approx(70.15 + len(clip.sound) / RATE_HZ, abs=0.2)
