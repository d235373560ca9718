"""The transcriber process with the scripted engine. The model “heavy” makes it crash, “faulty” makes it fail."""

import os
import sys

import psutil

from pbx.settings import Settings
from pbx.speech.transcriber import Transcriber
from pbx.transcription import batch as transcribe
from pbx.transcription import transcriber_process as transcriber
from tests.unit.transcription.scripted_engine import ScriptedEngine


def load(settings: Settings, model: str, progress: transcriber.ByteProgress | None) -> Transcriber:
    if (model or settings.whisper_model) == "heavy":
        psutil.Process().kill()
    if (model or settings.whisper_model) == "faulty":
        raise RuntimeError("a programming error")
    return ScriptedEngine(settings.pbx_data_dir, model or "scripted")


transcribe.STOP_CHECK_S = 0.1
transcriber.POLL_S = 0.05
transcriber.IDLE_S = float(os.environ.get("IDLE_S", "60"))
transcriber.load_model = load
sys.argv[1:] = ["transcriber", *sys.argv[1:]]

from pbx.__main__ import main  # noqa: E402

main()
