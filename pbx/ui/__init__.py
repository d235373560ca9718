"""What pages are made of: the active PBX, tiles, tables, the player, empty states, the sidebar.

The only package that imports Streamlit.
"""

from pbx.ui.access_gate import (
    Gate,
    network_warning,
)
from pbx.ui.access_gate import rules as gate_rules
from pbx.ui.active_pbx import (
    LIVE_INTERVAL_S,
    SETTINGS_PAGE,
    Site,
    cache,
    find_site,
    fixed_connection_page,
    live_interval_s,
    live_snapshot,
    no_import_note,
    no_pbx_hint,
    request_fresh_snapshot,
    site,
    snapshot,
    tour,
)
from pbx.ui.call_columns import CALL_COLUMNS, SHORT_CALL_COLUMNS, call_cells, short_call_cells
from pbx.ui.exports import (
    table_export,
)
from pbx.ui.page_elements import (
    LOGO_MARK,
    chart,
    data_label_pill,
    empty,
    facts,
    head,
    note,
    palette,
    pending_toast,
    picture_name,
    plain,
    problem,
    select_one,
    show_errors,
    style,
    tile,
)
from pbx.ui.shell import Shell
from pbx.ui.sidebar import (
    draw_sidebar,
)
from pbx.ui.streamlit_patches import (
    apply_streamlit_patches,
    correct_address,
)
from pbx.ui.table import TableCell, table

__all__ = [
    "CALL_COLUMNS",
    "LIVE_INTERVAL_S",
    "LOGO_MARK",
    "SETTINGS_PAGE",
    "SHORT_CALL_COLUMNS",
    "Gate",
    "Shell",
    "Site",
    "TableCell",
    "apply_streamlit_patches",
    "cache",
    "call_cells",
    "chart",
    "correct_address",
    "data_label_pill",
    "draw_sidebar",
    "empty",
    "facts",
    "find_site",
    "fixed_connection_page",
    "gate_rules",
    "head",
    "live_interval_s",
    "live_snapshot",
    "network_warning",
    "no_import_note",
    "no_pbx_hint",
    "note",
    "palette",
    "pending_toast",
    "picture_name",
    "plain",
    "problem",
    "request_fresh_snapshot",
    "select_one",
    "short_call_cells",
    "show_errors",
    "site",
    "snapshot",
    "style",
    "table",
    "table_export",
    "tile",
    "tour",
]
