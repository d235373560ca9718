"""Fixes for Streamlit 1.67, where a page is left for another one.

A fragment's timer may ask for a page once more while it is already being left. Streamlit then runs that request after
the page that came, under the hash of the one that went; the browser clears the page that came, and the next message
ends it ("Bad delta path index"). What is asked for a page that was left is dropped here instead. So is what a timer
asks for while a page is being left: with a run of a fragment Streamlit throws away what the one before drew and what
has not been sent yet, the step to the other page too.

A page is to show what its address says, and its address what it shows. Streamlit drops from the address of a page that
is opened what a widget of the page left is bound to by the same name (a period, a queue), fills in what such widgets
held wherever a link's address is silent, and takes the parameters out of the address of the page left, so that Back
leads to that page without its filters. Here the address of a link, of Back and of Forward alone decides, and the page
left keeps its own.

A range of one day is in the address as that day twice. Streamlit makes it once, as it rightly does with what is chosen
among options, and tells the browser so; what puts it right a run later may be overtaken by that. Here it stays.
"""

import time
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
from streamlit.runtime.state import session_state

_OPENED, _LEAVING = "page_opened", "page_left_at"
LEAVING_S = 5.0  # after so long the other page has come, or never will
_run_script = ScriptRunner._run_script
_sanitize = session_state._sanitize_url_array


def _run_what_is_there(self: ScriptRunner, rerun_data: RerunData) -> None:
    here = self._pages_manager.current_page_script_hash
    if rerun_data.fragment_id_queue:
        if rerun_data.page_script_hash not in ("", here) or _is_leaving(self):
            return
    elif _LEAVING in self._session_state:
        del self._session_state[_LEAVING]
    if rerun_data.page_script_hash not in ("", here):
        rerun_data = _as_its_address_says(self, rerun_data)
    _run_script(self, rerun_data)


def _is_leaving(runner: ScriptRunner) -> bool:
    state = runner._session_state
    return _LEAVING in state and time.monotonic() - state[_LEAVING] < LEAVING_S


def leave_page() -> None:
    """Keep the page's timers from drawing on it until the page that was asked for has come."""
    st.session_state[_LEAVING] = time.monotonic()


def _as_its_address_says(runner: ScriptRunner, opening: RerunData) -> RerunData:
    """What is asked for when another page is opened, without what comes from the page left."""
    asked = parse_qsl(opening.query_string, keep_blank_values=True)
    with runner._session_state.query_params() as known:
        if not opening.is_history_navigation:
            asked = [(name, value) for name, value in asked if not known.is_bound(name)]
        for widget_id in list(known._bindings_by_widget):
            known.unbind_widget(widget_id)
    runner._session_state[_OPENED] = True
    by_address = opening.is_history_navigation or bool(asked)
    if by_address:  # nothing is left to fill in, not even by a page that begins again while it is drawn
        state = runner._session_state._state
        for widget_id in state._query_param_bound_widget_ids:
            state._old_state.pop(state._key_id_mapper.id_key_mapping.get(widget_id, ""), None)
        state._query_param_bound_widget_ids.clear()
    return replace(opening, query_string=urlencode(asked), is_history_navigation=by_address)


def correct_address() -> None:
    """Give a page just opened its own address; the browser has given it the parameters of the page left as well."""
    if st.session_state.pop(_OPENED, False):
        st.query_params.from_dict({name: st.query_params.get_all(name) for name in st.query_params})


def _sanitize_options(
    parsed: list[str], *, valid_options: list[str] | None, max_length: int | None, allow_duplicates: bool = False
) -> list[str] | None:
    twice = allow_duplicates or valid_options is None
    return _sanitize(parsed, valid_options=valid_options, max_length=max_length, allow_duplicates=twice)


def drop_reruns_of_left_pages() -> None:
    """Take effect for all sessions; again is harmless."""
    ScriptRunner._run_script = _run_what_is_there  # type: ignore[method-assign]
    session_state._sanitize_url_array = _sanitize_options


def read_address_as(name: str, values: list[str]) -> None:
    """Have a widget that is drawn next find these values in the address, in place of what is there."""
    context = get_script_run_ctx()
    if context is not None and name in st.query_params:
        with context.session_state.query_params() as known:
            known._initial_query_params[name] = values


def write_address(name: str, values: list[str]) -> None:
    """Keep in the address what a bound widget holds, where Streamlit doesn't: what is set before it is drawn."""
    context = get_script_run_ctx()
    if context is not None and st.query_params.get_all(name) != values:
        with context.session_state.query_params() as known:
            known.set_corrected_value(name, values, "string_array_value")


def opened_by_address() -> bool:
    """Whether the address alone decides what this run shows: the page was opened by a link, Back or Forward."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation
