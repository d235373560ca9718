"""Fixes for Streamlit 1.67: changing from one page to another, and URL parameters.

A fragment's timer may request a rerun of a page that the user is leaving. Streamlit runs that request after the new
page, under the old page's hash; the browser then clears the new page, and the next message fails ("Bad delta path
index"). Here requests for the old page are dropped. So are requests of timers while the user is leaving: a run of a
fragment makes Streamlit discard messages that it has not sent yet, including the one that opens the new page.

A timer's request that comes just after the run of a click makes Streamlit replace the script runner and ignore the
messages that the old one has already sent to the event loop: the click has no visible effect. Here those messages are
handled first.

A page must show what its URL says, and the other way round. If a widget of the old page has the same URL parameter (a
period, a queue), Streamlit drops it from the new page's URL, fills in the old value where a link has none, and removes
the parameters from the old page's URL, so that Back loses its filters. Here the URL of a link, of Back or of Forward
decides, and the old page keeps its URL.

A range of one day is that day twice in the URL. Streamlit removes the duplicate, which is right for options, and sends
that to the browser; a correction in the next run can come too late. Here the duplicate is kept.
"""

import time
from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

import streamlit as st
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData
from streamlit.runtime.state import session_state

_OPENED, _LEAVING = "page_opened", "page_left_at"
LEAVING_S = 5.0  # by then the other page has opened, or never will
_run_script = ScriptRunner._run_script
_create_runner = AppSession._create_scriptrunner
_sanitize = session_state._sanitize_url_array


def _run_current_page(self: ScriptRunner, rerun_data: RerunData) -> None:
    current_page = self._pages_manager.current_page_script_hash
    if rerun_data.fragment_id_queue:
        if rerun_data.page_script_hash not in ("", current_page) or _is_leaving(self):
            return
    elif _LEAVING in self._session_state:
        del self._session_state[_LEAVING]
    if rerun_data.page_script_hash not in ("", current_page):
        rerun_data = _with_its_own_url(self, rerun_data)
    _run_script(self, rerun_data)


def _is_leaving(runner: ScriptRunner) -> bool:
    state = runner._session_state
    return _LEAVING in state and time.monotonic() - state[_LEAVING] < LEAVING_S


def _create_runner_after_messages(self: AppSession, initial_rerun_data: RerunData) -> None:
    if self._scriptrunner is None:
        _create_runner(self, initial_rerun_data)
    else:  # it has ended, and its messages are in the event loop's queue: this comes after them
        self._event_loop.call_soon(_rerun, self, initial_rerun_data)


def _rerun(session: AppSession, rerun_data: RerunData) -> None:
    if session._scriptrunner is None or not session._scriptrunner.request_rerun(rerun_data):
        _create_runner(session, rerun_data)


def leave_page() -> None:
    """Drop the requests of the page's timers until the next page has opened."""
    st.session_state[_LEAVING] = time.monotonic()


def _with_its_own_url(runner: ScriptRunner, opening: RerunData) -> RerunData:
    """The request that opens another page, without the parameters of the page that the user is leaving."""
    parameters = parse_qsl(opening.query_string, keep_blank_values=True)
    with runner._session_state.query_params() as params:
        if not opening.is_history_navigation:
            parameters = [(name, value) for name, value in parameters if not params.is_bound(name)]
        for widget_id in list(params._bindings_by_widget):
            params.unbind_widget(widget_id)
    runner._session_state[_OPENED] = True
    by_url = opening.is_history_navigation or bool(parameters)
    if by_url:  # so that no old value is filled in, not even if the page reruns while it is drawn
        state = runner._session_state._state
        for widget_id in state._query_param_bound_widget_ids:
            state._old_state.pop(state._key_id_mapper.id_key_mapping.get(widget_id, ""), None)
        state._query_param_bound_widget_ids.clear()
    return replace(opening, query_string=urlencode(parameters), is_history_navigation=by_url)


def correct_address() -> None:
    """Correct the URL of a page that was just opened: the browser has added the previous page's parameters."""
    if st.session_state.pop(_OPENED, False):
        st.query_params.from_dict({name: st.query_params.get_all(name) for name in st.query_params})


def _sanitize_options(
    parsed: list[str], *, valid_options: list[str] | None, max_length: int | None, allow_duplicates: bool = False
) -> list[str] | None:
    twice = allow_duplicates or valid_options is None
    return _sanitize(parsed, valid_options=valid_options, max_length=max_length, allow_duplicates=twice)


def apply_streamlit_patches() -> None:
    """Apply these fixes to all sessions; calling it again is harmless."""
    ScriptRunner._run_script = _run_current_page  # type: ignore[method-assign]
    AppSession._create_scriptrunner = _create_runner_after_messages  # type: ignore[method-assign]
    session_state._sanitize_url_array = _sanitize_options


def read_address_as(name: str, values: list[str]) -> None:
    """Make the widget that is drawn next read these values, instead of those in the URL."""
    context = get_script_run_ctx()
    if context is not None and name in st.query_params:
        with context.session_state.query_params() as params:
            params._initial_query_params[name] = values


def write_address(name: str, values: list[str]) -> None:
    """Write a bound widget's value to the URL if it was set before the widget was drawn, as Streamlit doesn't."""
    context = get_script_run_ctx()
    if context is not None and st.query_params.get_all(name) != values:
        with context.session_state.query_params() as params:
            params.set_corrected_value(name, values, "string_array_value")


def opened_by_address() -> bool:
    """Whether only the URL decides what this run shows, because a link, Back or Forward opened the page."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation
