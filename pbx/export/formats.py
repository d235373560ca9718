"""The export formats for transcripts, and writing one or more calls in any of them."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from pbx.export.call import CallTranscript
from pbx.export.text import to_json, to_srt, to_txt, to_vtt
from pbx.export.word import to_docx
from pbx.export.zip import write_each, write_zip

ZIP_MIME = "application/zip"
ZIP_WITH_AUDIO = "ZIP with audio"
MakeFile = Callable[..., str | bytes]


class ExportFormat(NamedTuple):
    """An export format: its file extension, its MIME type, and the function that makes a file (None: ZIP with audio).

    `single`: a file contains one call, so several calls become a ZIP with one file each.
    """

    extension: str
    mime: str
    make: MakeFile | None
    single: bool = False


FORMATS: dict[str, ExportFormat] = {
    "Text": ExportFormat("txt", "text/plain", to_txt),
    "Word": ExportFormat("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", to_docx),
    "Subtitles (SRT)": ExportFormat("srt", "application/x-subrip", to_srt, single=True),
    "Subtitles (VTT)": ExportFormat("vtt", "text/vtt", to_vtt, single=True),
    "JSON": ExportFormat("json", "application/json", to_json),
    ZIP_WITH_AUDIO: ExportFormat("zip", ZIP_MIME, None),
}


def file_name(label: str, stem: str, *, many: bool = False) -> tuple[str, str]:
    """Return the file name and MIME type of an export of one call or `many`. `label`: a key of FORMATS."""
    selected = FORMATS[label]
    return (f"{stem}.zip", ZIP_MIME) if selected.single and many else (f"{stem}.{selected.extension}", selected.mime)


def write_export(
    label: str, calls: Iterable[CallTranscript], target: Path, *, many: bool = False, doubtful: bool = False
) -> None:
    """Write calls to a file. `label`: a key of FORMATS, `many`: whether there may be several calls.

    With audio and as subtitles, only one call at a time is in memory. Raises StorageFull, and any error that reading
    `calls` raises; no file is left in these cases.
    """
    _, _, make, single = FORMATS[label]
    if make is None:
        write_zip(calls, target, doubtful=doubtful)
    elif single and many:
        write_each(calls, target, FORMATS[label].extension, lambda call: _bytes(make(call, doubtful=doubtful)))
    else:
        target.write_bytes(_bytes(make(next(iter(calls)) if single else calls, doubtful=doubtful)))


def export_bytes(label: str, calls: Iterable[CallTranscript], *, many: bool = False, doubtful: bool = False) -> bytes:
    """Return an export as bytes; parameters as in `write_export`."""
    with tempfile.TemporaryDirectory(prefix="pbx-export-") as folder:
        target = Path(folder) / "export"
        write_export(label, calls, target, many=many, doubtful=doubtful)
        return target.read_bytes()


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
