"""Which speech engine there is, and the one the settings choose, with its model loaded. Importing this imports none."""

import importlib.util
import re

from pbx.errors import ModelError
from pbx.settings import Settings
from pbx.speech.transcriber import Transcriber
from pbx.speech.weights import ENGINES, PACKAGES, PIP_LINES, DownloadProgress, find_weights, known_models

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def engines() -> list[str]:
    """The installed engines, in the order in which they are offered."""
    return [engine for engine in ENGINES if importlib.util.find_spec(PACKAGES[engine][0]) is not None]


def model_names(engine: str) -> list[str]:
    """The names by which an engine's own models are known; none where it isn't installed."""
    return list(known_models(engine))


def load_transcriber(settings: Settings, model: str = "", progress: DownloadProgress | None = None) -> Transcriber:
    """Load the settings' engine with `model` (a name or path; the settings' own if empty), downloaded where need be.

    `progress` is told of a download: bytes here, bytes in all. Raises ModelError when engine or model can't be had, the
    model is damaged or too large for this machine; StorageFull or DataError when a download can't be written.
    """
    engine, name = settings.whisper_engine, model or settings.whisper_model
    if engine not in engines():
        fix = f"Install it with: {PIP_LINES[engine]}; or set WHISPER_ENGINE to one that is there."
        raise ModelError(f"The speech engine {engine} is not installed.", fix)
    if not _DEVICE.fullmatch(settings.whisper_device):
        fix = "Set WHISPER_DEVICE to auto, cpu, cuda, or cuda:1 for the second GPU."
        raise ModelError(f"There is no device “{settings.whisper_device}” for speech models.", fix)
    weights = find_weights(name, engine, settings.models_dir, progress)
    device, precision, stretches = settings.whisper_device, settings.whisper_precision, settings.whisper_max_spans
    if engine == "whisper":
        from pbx.speech.whisper import WhisperTranscriber

        return WhisperTranscriber(weights, name, device, precision=precision, stretches_per_window=stretches)
    from pbx.speech.faster import FasterTranscriber

    return FasterTranscriber(weights, name, device, precision=precision, stretches_per_window=stretches)
