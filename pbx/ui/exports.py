"""Transcripts and tables to take away: a choice of format and a button that makes the file when it is pressed."""

from collections.abc import Callable, Sequence
from datetime import datetime

import streamlit as st

from pbx.export import FORMATS, ZIP_WITH_AUDIO, audio_bytes, export_bytes, file_name, load_call, safe_name
from pbx.export.tables import CSV_MIME, XLSX_MIME, TableRows, to_csv, to_xlsx
from pbx.formatting import count_text, size_text
from pbx.store.engine import reading
from pbx.ui.active_pbx import Site
from pbx.ui.elements import note

MOST_CALLS = 500
MOST_EXPORTED = 100_000  # rows of a table
MOST_AUDIO_BYTES = 500_000_000  # the server holds a download in memory


def export_form(site: Site, call_ids: Sequence[int], stem: str, *, key: str, doubtful: bool = False) -> None:
    """Format, what to leave out, and the download of these calls' transcripts (at most MOST_CALLS are taken)."""
    ids = list(call_ids[:MOST_CALLS])
    label = st.selectbox("Format", list(FORMATS), key=f"{key}_format", filter_mode=None)
    with_doubtful = st.checkbox(
        "Include doubtful passages",
        doubtful,
        key=f"{key}_doubtful",
        help="What the speech model may have made up is left out otherwise.",
    )
    if len(call_ids) > MOST_CALLS:
        note(f"At most {MOST_CALLS} calls fit in one export: these are the first of them.")
    too_large = False
    if label == ZIP_WITH_AUDIO and ids:
        with reading(site.engine) as session:
            size_bytes = audio_bytes(session, ids)
        too_large = size_bytes > MOST_AUDIO_BYTES
        limit = size_text(MOST_AUDIO_BYTES)
        note(f"{size_text(size_bytes)} of audio" + (f", more than the {limit} of one export." if too_large else "."))
    many = len(ids) > 1
    name, mime = file_name(label, safe_name(_marked(site, stem)), many=many)

    def make() -> bytes:
        with reading(site.engine) as session:
            calls = (load_call(session, call_id, site.settings.audio_dir, site.zone) for call_id in ids)
            return export_bytes(label, calls, many=many, doubtful=with_doubtful)

    st.download_button(
        f"Download {count_text(len(ids), 'call')}",
        make,
        file_name=name,
        mime=mime,
        icon=":material/download:",
        type="primary",
        width="stretch",
        on_click="ignore",
        disabled=too_large or not ids,
        key=f"{key}_download",
    )


def table_export(
    site: Site, stem: str, columns: Sequence[str], rows: Callable[[], TableRows], *, key: str, total: int = 0
) -> None:
    """A menu with a table as CSV and as Excel; `rows` is called when one is asked for, times are the PBX's.

    `total`: how many rows there are, where `rows` gives the newest MOST_EXPORTED of them at most; it is said then.
    """
    name = safe_name(_marked(site, f"{stem} {datetime.now(site.zone):%Y-%m-%d}"))
    with st.popover("Export", icon=":material/download:", key=f"{key}_export"):
        if total > MOST_EXPORTED:
            note(f"The newest {MOST_EXPORTED:,} of {total:,}. Choose a shorter period for the others.")
        st.download_button(
            "CSV",
            lambda: to_csv(columns, rows(), site.zone),
            file_name=f"{name}.csv",
            mime=CSV_MIME,
            on_click="ignore",
            width="stretch",
            key=f"{key}_csv",
        )
        st.download_button(
            "Excel",
            lambda: to_xlsx(columns, rows(), site.zone, sheet=stem),
            file_name=f"{name}.xlsx",
            mime=XLSX_MIME,
            on_click="ignore",
            width="stretch",
            key=f"{key}_xlsx",
        )


def _marked(site: Site, stem: str) -> str:
    """A file's name that tells made-up calls from real ones."""
    return f"demo {stem}" if site.settings.demo else stem
