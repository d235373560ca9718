"""The app on a system that has only what Linux, macOS and Windows all have: see tests/limited_python."""

import ast
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pbx
from tests.paths import ROOT

LIMITED_PYTHON = ROOT / "tests" / "limited_python"
PLATFORM_TESTS = [  # tests of what differs between systems: locks, processes, files
    "tests/unit/test_process_lock.py",
    "tests/unit/test_operating_system.py",
    "tests/unit/jobs/test_worker.py::test_another_worker_continues_the_job_of_a_killed_worker",
    "tests/unit/jobs/test_worker.py::test_a_worker_is_started_only_if_none_is_running",
    "tests/unit/transcription/test_transcriber_process.py::test_a_new_transcriber_completes_what_a_killed_one_left",
    "tests/unit/demo/test_lifecycle.py::test_the_demo_is_removed_while_it_is_being_prepared",
    "tests/unit/demo/test_lifecycle.py::test_the_database_is_closed_before_its_folder_is_deleted",
    "tests/unit/store/test_vault.py",
    "tests/unit/recordings/test_sync.py",
    "tests/unit/recordings/test_playable.py",
    "tests/unit/speech/test_weights.py",
    "tests/unit/live/test_collect.py",
    "tests/unit/export/test_zip.py",
]
MODULES = sorted(module.name for module in pkgutil.walk_packages(pbx.__path__, "pbx.") if module.name != "pbx.__main__")
DELETES_OPEN_FILES = (
    "tests/unit/test_process_lock.py::test_a_lock_is_lost_when_its_directory_is_deleted_or_created_again"
)
PORTABLE_CODES = "aAbBcdGHIjmMpSuUVwWxXyYzZf%"
SOURCES = [*ROOT.glob("pbx/**/*.py"), *ROOT.glob("pages/**/*.py"), ROOT / "streamlit_app.py"]


def run_limited_python(*arguments: str, timeout_s: float = 600) -> "subprocess.CompletedProcess[str]":
    """Run Python with only what all systems have, and with ASCII as the default encoding of text files."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(LIMITED_PYTHON), str(ROOT))),
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONCOERCECLOCALE": "0",
        "LC_ALL": "C",
    }
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, text=True, encoding="utf-8", capture_output=True, timeout=timeout_s
    )


def run_tests(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_limited_python("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--tb=short", *arguments)


def test_every_module_can_be_imported() -> None:
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint('all imported')"
    process = run_limited_python("-c", code, *MODULES)
    assert process.stdout == "all imported\n", process.stderr


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import fcntl", "not every system has fcntl"),
        ("from os import fork", "cannot import name 'fork'"),
        ("import signal; signal.SIGKILL", "not every system has signal.SIGKILL"),
        ("import os, sys; os.replace(sys.argv[1], sys.argv[1] + '2')", "Windows would refuse"),
        ("import subprocess; subprocess.run('x', pass_fds=[1])", "not every system has pass_fds"),
    ],
)
def test_the_limited_python_lacks_what_other_systems_lack(code: str, error: str, tmp_path: Path) -> None:
    """Otherwise the tests below would prove nothing."""
    module = str(ROOT / "pbx" / "no_such_module.py")
    run = f"exec(compile({code!r}, {module!r}, 'exec'), {{'__file__': {module!r}}})"
    process = run_limited_python("-c", f"import sys; file = open(sys.argv[1], 'wb'); {run}", str(tmp_path / "file"))
    assert process.returncode == 1
    assert error in process.stderr


@pytest.mark.timeout(600)
def test_locks_processes_and_files_work() -> None:
    process = run_tests(*PLATFORM_TESTS, "--deselect", DELETES_OPEN_FILES)
    assert process.returncode == 0, process.stdout[-8000:] + process.stderr[-2000:]


@pytest.mark.timeout(600)
def test_every_page_opens() -> None:
    process = run_limited_python(
        "-m",
        "pytest",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "tests/pages/test_pages.py::test_before_the_first_sync_and_snapshot_every_page_says_what_to_expect",
        "tests/pages/test_pages.py::test_data_that_the_pbx_denies_is_reported_and_the_rest_is_shown",
        "tests/pages/test_today.py::test_today_shows_live_figures_problems_and_latest_calls",
        "tests/pages/test_queues.py::test_the_page_shows_members_callers_and_charts",
        "tests/pages/test_trunks.py::test_trunks_show_state_now_and_over_time",
        "tests/pages/test_extensions.py::test_extensions_show_devices_and_active_calls",
        "tests/pages/test_interactions.py::test_the_url_opens_a_call_with_its_audio_player",
    )
    assert process.returncode == 0, process.stdout[-8000:] + process.stderr[-2000:]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_time_formats_use_only_portable_codes(path: Path) -> None:
    """Windows raises ValueError for codes of other C libraries, such as %-d."""
    invalid = [(line, code) for line, code in time_formats(path) if set(re.findall("%(.)", code)) - set(PORTABLE_CODES)]
    assert not invalid


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_files_name_their_encoding(path: Path) -> None:
    """Windows' default encoding is not UTF-8."""
    assert list(calls_without_encoding(path)) == []


def calls_without_encoding(path: Path) -> Iterator[int]:
    """The lines that read or write a text file in the system's default encoding."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        if (name == "read_text" and not node.args) or (name == "write_text" and len(node.args) < 2):
            yield node.lineno
        if name in ("fdopen", "NamedTemporaryFile", "TemporaryFile") and "w" in modes:
            yield node.lineno
        if isinstance(node.func, ast.Name) and name == "open" and not any("b" in str(mode) for mode in modes):
            yield node.lineno


def time_formats(path: Path) -> Iterator[tuple[int, str]]:
    """The line and format of each format specification in f-strings and calls of strftime."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            parts = [part.value for part in node.format_spec.values if isinstance(part, ast.Constant)]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "strftime":
            yield from (
                (node.lineno, str(argument.value)) for argument in node.args if isinstance(argument, ast.Constant)
            )
