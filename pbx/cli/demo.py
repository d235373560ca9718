"""`python -m pbx demo`: a made-up company that telephones, to try the app with."""

import logging
import signal
import sys
import threading
from typing import Annotated

import typer
from rich.text import Text

from pbx.cli.terminal import Json, print_json, print_line, report_errors, stop_at_signals
from pbx.machine import end_with_parent

STARTED_TEXT = (
    "Demo PBX: a made-up company, to try the app with. Remove it in the app, or with: python -m pbx demo --remove"
)


def demo(
    if_unconfigured: Annotated[
        bool, typer.Option("--if-unconfigured", help="Do nothing where a PBX is set up, or the demo was removed.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the demo with all it brought.")] = False,
    as_json: Json = False,
    with_parent: Annotated[bool, typer.Option(hidden=True, help="End when standard input does.")] = False,
) -> None:
    """Be the demo PBX until stopped: on loopback, with thirty days of made-up calls, in a folder of its own."""
    with report_errors(as_json):
        from pbx.demo.lifecycle import demo_alive, leave_demo
        from pbx.settings import load_folder_settings

        settings = load_folder_settings()
        if remove:
            leave_demo(settings)
            print_json({"removed": True}) if as_json else print_line(Text("The demo is removed."))
            return
        if if_unconfigured and (demo_alive(settings) or not _demo_should_run()):
            return
        stop, signals = stop_at_signals()
        if with_parent:
            end_with_parent(stop)
        _run(stop, as_json, started_by_app=with_parent)
    raise typer.Exit(130 if signal.SIGINT in signals else 0)


def _demo_should_run() -> bool:
    """Whether the demo is on already, or nothing is set up and nobody has removed it."""
    from pbx.demo.lifecycle import is_unconfigured, was_left
    from pbx.settings import load_folder_settings, load_settings

    settings = load_folder_settings()
    return bool(load_settings().demo) or (is_unconfigured(settings) and not was_left(settings))


def _run(stop: threading.Event, as_json: bool, *, started_by_app: bool) -> None:
    from pbx.demo.lifecycle import LEFT, is_unconfigured
    from pbx.demo.process import run_demo
    from pbx.errors import SettingsError
    from pbx.settings import load_folder_settings

    settings = load_folder_settings()
    if not is_unconfigured(settings):
        raise SettingsError(
            "A PBX is set up, and the demo would stand in its place.",
            "Name another directory to try it in: PBX_DATA_DIR=data-of-the-demo python -m pbx demo",
        )
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s")
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    if not started_by_app:
        (settings.home_dir / LEFT).unlink(missing_ok=True)
    if not as_json:
        print_line(Text(STARTED_TEXT))

    def ready(ami_port: int, ari_port: int) -> None:
        if as_json:
            print_json({"ready": True, "host": "127.0.0.1", "ami_port": ami_port, "ari_port": ari_port})

    run_demo(settings, stop, ready=ready)
