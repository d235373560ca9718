"""ZIP exports: their content, file names that are safe on every system, memory use and a full disk."""

import errno
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from pbx.errors import StorageFull
from pbx.export import CallTranscript, RecordingTranscript, file_name, to_txt, write_export, write_zip
from pbx.export.call import safe_name
from tests.unit.export.samples import conversation, sample_call, sample_line


def write_sound(folder: Path, name: str = "a.wav", size: int = 1000) -> Path:
    file = folder / name
    file.write_bytes(bytes(range(256)) * (size // 256 + 1))
    return file


def test_a_call_is_a_folder_with_its_recordings_and_transcript(tmp_path: Path) -> None:
    exported_call = sample_call(sample_line(1, "Hello."), audio=write_sound(tmp_path))
    write_zip([exported_call, conversation()], tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        folder = "2026-07-01 0914 +4930123 to 600 (7)"
        assert sorted(name for name in archive.namelist() if name.startswith(f"{folder}/")) == [
            f"{folder}/in-600.wav",
            f"{folder}/transcript.json",
            f"{folder}/transcript.txt",
        ]
        assert archive.read(f"{folder}/in-600.wav") == (tmp_path / "a.wav").read_bytes()
        assert archive.read(f"{folder}/transcript.txt").decode() == to_txt(exported_call)
        assert "in-600" in archive.read(f"{folder} (2)/missing.txt").decode()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/srv/x", "..", "", "C:\\x\\con", "a\x00b", "con", "x" * 400, "‮gpj.exe", "é/..\\.."]
)
def test_file_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    recordings = tuple(RecordingTranscript(name, audio=write_sound(tmp_path)) for _ in range(2))
    write_zip([CallTranscript(1, f"{name} → {name}", recordings=recordings)], tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = archive.namelist()
    assert len({one.lower() for one in names}) == 4
    for one in names:
        folder, file = one.split("/")
        for part in (folder, file):
            assert part.strip(" .") == part
            assert part not in ("", "..", "con")
            assert not set(part) & set('\\:*?"<>|\x00\u202e')
            assert len(part.encode()) < 200


def test_recordings_with_the_same_name_are_numbered(tmp_path: Path) -> None:
    recordings = tuple(RecordingTranscript(f"{day}/q-600", audio=write_sound(tmp_path)) for day in ("01", "02"))
    write_zip([CallTranscript(1, "x", recordings=recordings)], tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {"x (1)/q-600.wav", "x (1)/q-600 (2).wav"} <= set(archive.namelist())


def test_a_large_recording_is_not_held_in_memory(tmp_path: Path) -> None:
    exported_call = sample_call(audio=write_sound(tmp_path, size=60_000_000))
    tracemalloc.start()
    write_zip([exported_call], tmp_path / "out.zip")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 12_000_000


def test_deleted_recording_is_listed_as_missing(tmp_path: Path) -> None:
    exported_call = sample_call(sample_line(1, "Hello."), audio=write_sound(tmp_path))
    (tmp_path / "a.wav").unlink()
    write_zip([exported_call], tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert any(name.endswith("missing.txt") for name in archive.namelist())


def test_full_disk_raises_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pbx.export.zip.shutil.copyfileobj", full)
    with pytest.raises(StorageFull, match="Not enough disk space for the export"):
        write_zip([sample_call(audio=write_sound(tmp_path))], tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_subtitles_of_several_calls_are_a_file_each(tmp_path: Path) -> None:
    assert file_name("Subtitles (VTT)", "calls", many=True) == ("calls.zip", "application/zip")
    assert file_name("Subtitles (VTT)", "call") == ("call.vtt", "text/vtt")
    write_export("Subtitles (VTT)", iter([conversation(), conversation()]), tmp_path / "out", many=True)
    with zipfile.ZipFile(tmp_path / "out") as archive:
        assert len(archive.namelist()) == 2
        assert all(archive.read(name).startswith(b"WEBVTT\n") for name in archive.namelist())


def test_names_are_safe_on_every_system() -> None:
    assert safe_name('a/b\\c:d*e?f"g<h>i|j') == "a_b_c_d_e_f_g_h_i_j"
    assert safe_name(" ..hidden. ") == "hidden"
    assert [safe_name(name) for name in ("NUL", "com1.txt", "console")] == ["_NUL", "_com1.txt", "console"]
    assert len(safe_name("é" * 200).encode()) == 120
