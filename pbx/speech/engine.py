"""The installed speech engines, and loading the one that the settings choose. Importing this module imports none."""

import importlib.util
import re

from pbx.errors import ModelError
from pbx.settings import Settings
from pbx.speech.transcriber import Transcriber
from pbx.speech.weights import ENGINES, PACKAGES, PIP_LINES, DownloadProgress, find_weights, known_models

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def engines() -> list[str]:
    """Return the installed engines, in the order in which they are offered."""
    return [engine for engine in ENGINES if importlib.util.find_spec(PACKAGES[engine][0]) is not None]


def model_names(engine: str) -> list[str]:
    """Return the names of an engine's own models; none where it isn't installed."""
    return list(known_models(engine))


def load_transcriber(settings: Settings, model: str = "", progress: DownloadProgress | None = None) -> Transcriber:
    """Load the settings' engine with a model, which is downloaded when it is missing.

    `model`: a name or path; empty: the settings' own. `progress(done, total)` is called with bytes while downloading.
    Raises ModelError when the engine is not installed, or the model is unavailable, damaged or too large for this
    machine; StorageFull or DataError when a download can't be written.
    """
    engine, name = settings.whisper_engine, model or settings.whisper_model
    if engine not in engines():
        fix = f"Install it with: {PIP_LINES[engine]}; or set WHISPER_ENGINE to an installed engine."
        raise ModelError(f"The speech engine {engine} is not installed.", fix)
    if not _DEVICE.fullmatch(settings.whisper_device):
        fix = "Set WHISPER_DEVICE to auto, cpu, cuda, or cuda:1 for the second GPU."
        raise ModelError(f"There is no device “{settings.whisper_device}” for speech models.", fix)
    weights = find_weights(name, engine, settings.models_dir, progress)
    device, precision, max_spans = settings.whisper_device, settings.whisper_precision, settings.whisper_max_spans
    if engine == "whisper":
        from pbx.speech.whisper import WhisperTranscriber

        return WhisperTranscriber(weights, name, device, precision=precision, max_spans=max_spans)
    from pbx.speech.faster_whisper import FasterTranscriber

    return FasterTranscriber(weights, name, device, precision=precision, max_spans=max_spans)
