"""Exports of transcripts (text, subtitles, JSON, Word, ZIP with audio) and of tables (CSV, Excel)."""

from pbx.export.call import (
    CallTranscript,
    RecordingGroup,
    RecordingTranscript,
    TranscriptLine,
    audio_bytes,
    load_call,
    safe_name,
)
from pbx.export.formats import FORMATS, ZIP_WITH_AUDIO, ExportFormat, export_bytes, file_name, write_export
from pbx.export.text import to_json, to_srt, to_txt, to_vtt
from pbx.export.word import to_docx
from pbx.export.zip import write_zip

__all__ = [
    "FORMATS",
    "ZIP_WITH_AUDIO",
    "CallTranscript",
    "ExportFormat",
    "RecordingGroup",
    "RecordingTranscript",
    "TranscriptLine",
    "audio_bytes",
    "export_bytes",
    "file_name",
    "load_call",
    "safe_name",
    "to_docx",
    "to_json",
    "to_srt",
    "to_txt",
    "to_vtt",
    "write_export",
    "write_zip",
]
