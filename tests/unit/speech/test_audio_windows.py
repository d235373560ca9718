"""Speech is packed into windows without loss, repetition or excess length, and times map back to the recording."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx.speech.audio_windows import RATE_HZ, WINDOW_S, Window, WindowPacker

Spans = list[tuple[float, float]]


@st.composite
def recordings(draw: st.DrawFn) -> tuple[float, Spans, int | None, list[float]]:
    """A start time, speech spans, the maximum number of spans per window, and the lengths of the blocks."""
    start_s = draw(st.sampled_from([0.0, 12.5]))
    at_s, spans = start_s, []
    for _ in range(draw(st.integers(0, 8))):
        at_s += draw(st.floats(0.0, 4.0))
        end_s = at_s + draw(st.one_of(st.floats(0.05, 9.0), st.floats(25.0, 95.0)))
        spans.append((at_s, end_s))
        at_s = end_s
    return start_s, spans, draw(st.sampled_from([None, 1, 2])), draw(st.lists(st.floats(0.5, 60.0), min_size=1))


def pack(start_s: float, spans: Spans, max_spans: int | None, blocks_s: list[float]) -> tuple[list[Window], np.ndarray]:
    """Feed a recording of distinct samples block by block, as the detectors report its speech."""
    end_s = max((end for _, end in spans), default=start_s) + 1.0
    sound = (np.arange(round(end_s * RATE_HZ)) % 65_521).astype(np.float32) / 65_521
    packer = WindowPacker(1, start_s, max_spans)
    windows: list[Window] = []
    at, index, reported = round(start_s * RATE_HZ), 0, 0
    while at < len(sound):
        stop = min(len(sound), at + round(blocks_s[index % len(blocks_s)] * RATE_HZ))
        now_s = stop / RATE_HZ
        ended = [span for span in spans[reported:] if span[1] <= now_s]
        reported += len(ended)
        started = [begin for begin, _ in spans[reported:] if begin < now_s]
        settled_s = min([now_s, *started])
        windows += packer.feed(sound[at:stop], ended, settled_s, speaking=bool(started))
        at, index = stop, index + 1
    return windows + packer.finish(), sound


@settings(max_examples=40, deadline=None)
@given(recordings())
def test_each_sample_of_voice_is_in_one_window_and_times_map_back(
    recording: tuple[float, Spans, int | None, list[float]],
) -> None:
    start_s, spans, max_spans, blocks_s = recording
    windows, sound = pack(start_s, spans, max_spans, blocks_s)
    packed = np.zeros(len(sound), int)
    for window in windows:
        assert len(window.sound) <= WINDOW_S * RATE_HZ
        assert max_spans is None or len(window.pieces) <= max_spans
        voiced = np.zeros(len(window.sound), bool)
        for index, piece in enumerate(window.pieces):
            length = piece.stop - piece.start
            np.testing.assert_array_equal(window.sound[piece.at : piece.at + length], sound[piece.start : piece.stop])
            voiced[piece.at : piece.at + length] = True
            packed[piece.start : piece.stop] += 1
            middle_s = (piece.at + length / 2) / RATE_HZ
            assert window.piece_at(middle_s) == index
            assert window.time_at(middle_s) == pytest.approx((piece.start + length / 2) / RATE_HZ)
        assert not window.sound[~voiced].any()
    expected = np.zeros(len(sound), int)
    for begin_s, end_s in spans:
        expected[round(begin_s * RATE_HZ) : round(end_s * RATE_HZ)] = 1
    np.testing.assert_array_equal(packed, expected)
    starts = [piece.start for window in windows for piece in window.pieces]
    assert starts == sorted(starts)


def test_spans_share_a_window_with_short_gaps_between_them() -> None:
    packer = WindowPacker()
    sound = np.ones(RATE_HZ * 60, np.float32)
    assert packer.feed(sound, [(1.0, 3.0), (20.0, 25.0), (50.0, 51.0)], 60.0) == []
    (window,) = packer.finish()
    assert [window.span_of(i) for i in range(3)] == [(0.0, 2.0), (2.2, 7.2), (7.4, 8.4)]
    assert window.time_at(2.05) == 3.0  # the gap belongs to the nearer span
    assert window.time_at(2.15) == 20.0
    assert window.time_at(7.3, 2) == 50.0
    assert [single.start_s for single in window.unpacked()] == [1.0, 20.0, 50.0]


def test_a_long_span_is_cut_at_a_quiet_point() -> None:
    sound = np.ones(RATE_HZ * 40, np.float32)
    sound[int(26.4 * RATE_HZ) : int(26.8 * RATE_HZ)] = 0.01
    packer = WindowPacker()
    windows = packer.feed(sound, [(0.0, 40.0)], 40.0) + packer.finish()
    assert 26.4 <= windows[0].pieces[0].end_s <= 26.8
    assert [len(window.pieces) for window in windows] == [1, 1]


def test_endless_speech_is_not_kept_in_memory() -> None:
    packer = WindowPacker()
    minute = np.ones(RATE_HZ * 60, np.float32)
    windows = [window for _ in range(10) for window in packer.feed(minute, [], 0.0, speaking=True)]
    assert len(windows) >= 590 / 30
    assert len(packer._held) <= 30 * RATE_HZ
