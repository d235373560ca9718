"""Export menus for transcripts and tables. The app makes a file when the reader clicks its download button."""

from collections.abc import Callable, Sequence
from datetime import datetime

import streamlit as st

from pbx.export import FORMATS, ZIP_WITH_AUDIO, audio_bytes, export_bytes, file_name, load_call, safe_name
from pbx.export.tables import CSV_MIME, XLSX_MIME, TableRows, to_csv, to_xlsx
from pbx.formatting import count_text, size_text
from pbx.store.engine import reading
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import note

MAX_CALLS = 500
MAX_EXPORTED_ROWS = 100_000  # rows of a table
MAX_AUDIO_BYTES = 500_000_000  # the server holds a download in memory


def export_form(site: Site, call_ids: Sequence[int], stem: str, *, key: str, doubtful: bool = False) -> None:
    """Draw the form that exports the transcripts of calls, at most the first MAX_CALLS: format, options, download.

    `stem`: the file name without its extension. `doubtful`: whether doubtful passages are included by default.
    """
    ids = list(call_ids[:MAX_CALLS])
    label = st.selectbox("Format", list(FORMATS), key=f"{key}_format", filter_mode=None)
    with_doubtful = st.checkbox(
        "Include doubtful passages",
        doubtful,
        key=f"{key}_doubtful",
        help="If cleared, the export leaves out passages that the speech model may have invented.",
    )
    if len(call_ids) > MAX_CALLS:
        note(f"An export contains at most {MAX_CALLS} calls. This one contains the first {MAX_CALLS} of the list.")
    too_large = False
    if label == ZIP_WITH_AUDIO and ids:
        with reading(site.engine) as session:
            size_bytes = audio_bytes(session, ids)
        too_large = size_bytes > MAX_AUDIO_BYTES
        limit = f"; the limit is {size_text(MAX_AUDIO_BYTES)}, select fewer calls" if too_large else ""
        note(f"{size_text(size_bytes)} of audio{limit}.")
    many = len(ids) > 1
    name, mime = file_name(label, safe_name(_marked_stem(site, stem)), many=many)

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
    site: Site,
    stem: str,
    columns: Sequence[str],
    rows: Callable[[], TableRows],
    *,
    key: str,
    label: str = "Export",
    total: int = 0,
) -> None:
    """Draw a menu that downloads a table as CSV or Excel, with times in the PBX's zone.

    `rows` is called on download. `total`: the number of rows that exist; if it is over MAX_EXPORTED_ROWS, the menu says
    that the file contains only the newest.
    """
    name = safe_name(_marked_stem(site, f"{stem} {datetime.now(site.zone):%Y-%m-%d}"))
    with st.popover(label, icon=":material/download:", key=f"{key}_export"):
        if total > MAX_EXPORTED_ROWS:
            note(
                f"Exports the newest {MAX_EXPORTED_ROWS:,} of {total:,} rows. For older rows, select an earlier period."
            )
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


def _marked_stem(site: Site, stem: str) -> str:
    """Return a file name without extension that starts with the label of data that isn't real."""
    return f"{site.settings.data_label.lower()} {stem}".lstrip()
