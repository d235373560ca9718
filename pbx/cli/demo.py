"""`python -m pbx demo`: runs a simulated PBX with made-up calls, for trying the app."""

import logging
import signal
import sys
import threading
from typing import Annotated

import typer
from rich.text import Text

from pbx.cli.terminal import Json, WithParent, print_json, print_line, report_errors, stop_at_signals
from pbx.operating_system import end_with_parent

STARTED_TEXT = (
    "The demo PBX is starting: a made-up company for trying the app. To remove it, use the app or run: "
    "python -m pbx demo --remove"
)
STATUS_TEXT = "the demo PBX: made-up calls (python -m pbx demo --remove)"


def demo(
    if_unconfigured: Annotated[
        bool, typer.Option("--if-unconfigured", help="Do nothing if a PBX is set up or the demo was removed.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the demo and its data, and exit.")] = False,
    as_json: Json = False,
    with_parent: WithParent = False,
) -> None:
    """Run a demo PBX on the loopback interface until stopped, with thirty days of made-up calls.

    Its data is stored in a separate folder in the data directory.
    """
    with report_errors(as_json):
        from pbx.demo.lifecycle import demo_alive, remove_demo
        from pbx.settings import load_folder_settings

        settings = load_folder_settings()
        if remove:
            remove_demo(settings)
            print_json({"removed": True}) if as_json else print_line(Text("Demo removed."))
            return
        if if_unconfigured and (demo_alive(settings) or not _demo_should_run()):
            return
        stop, signals = stop_at_signals()
        if with_parent:
            end_with_parent(stop)
        _run(stop, as_json, started_by_app=with_parent)
    raise typer.Exit(130 if signal.SIGINT in signals else 0)


def _demo_should_run() -> bool:
    """Whether the demo is on already, or no PBX is set up and the demo wasn't removed before."""
    from pbx.demo.lifecycle import is_unconfigured, was_removed
    from pbx.settings import load_folder_settings, load_settings

    settings = load_folder_settings()
    return bool(load_settings().demo_id) or (is_unconfigured(settings) and not was_removed(settings))


def _run(stop: threading.Event, as_json: bool, *, started_by_app: bool) -> None:
    from pbx.demo.lifecycle import REMOVED_MARK, is_unconfigured
    from pbx.demo.process import run_demo
    from pbx.errors import SettingsError
    from pbx.settings import load_folder_settings

    settings = load_folder_settings()
    if not is_unconfigured(settings):
        raise SettingsError(
            "A PBX is set up, so the demo can't run in this data directory.",
            "Use another data directory: PBX_DATA_DIR=demo-data python -m pbx demo",
        )
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s")
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    if not started_by_app:
        (settings.home_dir / REMOVED_MARK).unlink(missing_ok=True)
    if not as_json:
        print_line(Text(STARTED_TEXT))

    def ready(ami_port: int, ari_port: int) -> None:
        if as_json:
            print_json({"ready": True, "host": "127.0.0.1", "ami_port": ami_port, "ari_port": ari_port})

    run_demo(settings, stop, ready=ready)
