"""A mend of Streamlit 1.67, without which a page now and then turns white when it is opened by st.switch_page.

A fragment's timer may ask for it once more while the page is already being left. Streamlit then runs that request after
the page that came, under the hash of the one that went; the browser clears the page that came, and the next message
ends it ("Bad delta path index"). What is asked for a page that was left is dropped here instead.
"""

from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.runtime.scriptrunner_utils.script_requests import RerunData

_run_script = ScriptRunner._run_script


def _run_what_is_there(self: ScriptRunner, rerun_data: RerunData) -> None:
    here = self._pages_manager.current_page_script_hash
    if not rerun_data.fragment_id_queue or rerun_data.page_script_hash in ("", here):
        _run_script(self, rerun_data)


def drop_reruns_of_left_pages() -> None:
    """Take effect for all sessions; again is harmless."""
    ScriptRunner._run_script = _run_what_is_there  # type: ignore[method-assign]
