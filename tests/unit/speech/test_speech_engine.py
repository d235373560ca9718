"""The engine and model of the settings are loaded, and invalid model files raise clear errors."""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from pbx import operating_system
from pbx.errors import ModelError
from pbx.settings import load_settings
from pbx.speech import checkpoints, engine, weights
from pbx.speech.engine import engines, load_transcriber, model_names
from pbx.speech.faster_whisper import FasterTranscriber
from pbx.speech.transcriber import TranscriptionSource
from pbx.speech.weights import known_models
from pbx.speech.whisper import WhisperTranscriber
from tests.paths import FIXTURES
from tests.unit.speech.ctranslate2_checkpoint import convert
from tests.unit.speech.synthetic_speech import CHECKPOINT
from tests.unit.speech.weight_server import cut_off, weight_server

PHRASE = FIXTURES / "audio" / "phrase-1.ulaw"
TEXT = "Thank you for calling support."


def pickled(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zip_without_model() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("report.txt", "not a model")
    return file.getvalue()


INVALID_CHECKPOINTS = {
    "empty": b"",
    "text": b"This is no model.\n" * 100,
    "html": b"<!doctype html><html><title>Sign in</title></html>",
    "truncated": CHECKPOINT.read_bytes()[:600_000],
    "noise": bytes(range(256)) * 1000,
    "other zip": zip_without_model(),
    "other pickle": pickled({"weights": torch.zeros(3)}),
    "list": pickled([1, 2, 3]),
    "wrong dimensions": pickled({"dims": {"n_mels": 80}, "model_state_dict": {"a": torch.zeros(3)}}),
}


def test_engines_are_listed_without_importing_them() -> None:
    code = (
        "import sys; from pbx.speech.engine import engines, model_names\n"
        "print(engines(), 'base' in model_names('whisper'))\n"
        "print([m for m in ('torch', 'whisper', 'faster_whisper', 'ctranslate2', 'onnxruntime') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == ["['whisper', 'faster-whisper'] True", "[]"]


def test_each_engine_has_its_model_names() -> None:
    assert {"tiny", "base", "large-v3", "turbo"} <= set(model_names("whisper")) & set(model_names("faster-whisper"))
    assert "distil-large-v3" in set(model_names("faster-whisper")) - set(model_names("whisper"))


def test_the_settings_select_engine_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_MODEL", str(CHECKPOINT))
    chosen = load_transcriber(load_settings())
    assert isinstance(chosen, WhisperTranscriber)
    assert (chosen.engine, chosen.model) == ("whisper", str(CHECKPOINT))

    folder = convert(CHECKPOINT, tmp_path / "micro")
    monkeypatch.setenv("WHISPER_ENGINE", "faster-whisper")
    chosen = load_transcriber(load_settings(), str(folder))  # overrides the model of the settings
    assert isinstance(chosen, FasterTranscriber)
    assert (chosen.engine, chosen.model) == ("faster-whisper", str(folder))
    assert [s.text for part in chosen.transcribe([TranscriptionSource(PHRASE)]) for s in part.segments] == [TEXT]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_settings_select_the_precision(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_MODEL", str(CHECKPOINT))
    monkeypatch.setenv("WHISPER_PRECISION", precision)
    precisions: list[str] = []

    def pick(device: str, precision: str) -> str:
        precisions.append(precision)
        return "fp32"

    monkeypatch.setattr(checkpoints, "_pick_precision", pick)
    load_transcriber(load_settings())
    assert precisions == [precision]


def test_a_model_by_name_is_downloaded_loaded_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    content = CHECKPOINT.read_bytes()
    path = f"/models/{hashlib.sha256(content).hexdigest()}/base.pt"
    progress_seen: list[tuple[int, int]] = []
    with weight_server() as server:
        server.files = {path: content}
        server.faults = [cut_off]
        known = {"whisper": known_models("whisper") | {"base": server.url + path}}
        monkeypatch.setattr(weights, "known_models", known.__getitem__)
        monkeypatch.setattr(weights, "_WAIT_S", 0.0)
        settings = load_settings()
        load_transcriber(settings, progress=lambda done, total: progress_seen.append((done, total)))
        assert (settings.models_dir / "base.pt").read_bytes() == content
        assert progress_seen[-1] == (len(content), len(content))
        monkeypatch.setattr(checkpoints, "_pick_precision", lambda device, precision: "fp32")
        transcriber = load_transcriber(settings.model_copy(update={"whisper_max_spans": 1}))
        assert len(server.requested) == 2  # the request that was cut off, and the one for the rest
    assert [s.text for part in transcriber.transcribe([TranscriptionSource(PHRASE)]) for s in part.segments] == [TEXT]


@pytest.mark.parametrize("kind", INVALID_CHECKPOINTS)
def test_an_invalid_checkpoint_raises_a_clear_error(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(INVALID_CHECKPOINTS[kind])
    with pytest.raises(ModelError, match=r"model\.pt is (not a Whisper checkpoint|damaged)") as caught:
        load_transcriber(load_settings(), str(file))
    assert "Download the model again" in caught.value.fix
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("damaged", ["model.bin", "tokenizer.json", "config.json", "vocabulary.json"])
@pytest.mark.parametrize("kind", ["empty", "html", "noise"])
def test_an_invalid_model_folder_raises_a_clear_error(
    kind: str, damaged: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPER_ENGINE", "faster-whisper")
    copy = tmp_path / "micro"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).symlink_to(file)
    (copy / damaged).unlink()
    (copy / damaged).write_bytes(INVALID_CHECKPOINTS[kind])
    with pytest.raises(ModelError, match="micro is damaged or not a faster-whisper model") as caught:
        load_transcriber(load_settings(), str(copy))
    assert "Delete the folder" in caught.value.fix


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(CHECKPOINT, tmp_path_factory.mktemp("ct2"))


def test_a_model_too_large_for_memory_raises_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating_system, "free_memory_bytes", lambda: 200_000_000)
    with pytest.raises(ModelError, match=r"needs about 0\.\d GB of memory; 0\.2 GB are free") as caught:
        load_transcriber(load_settings(), str(CHECKPOINT))
    assert "Choose a smaller model" in caught.value.fix


@pytest.mark.parametrize("engine_name", ["whisper", "faster-whisper"])
@pytest.mark.parametrize("device", ["gpu", "cuda:x", "mps", "cuda:99"])
def test_a_missing_device_raises_a_clear_error(
    engine_name: str, device: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHISPER_ENGINE", engine_name)
    monkeypatch.setenv("WHISPER_DEVICE", device)
    model = CHECKPOINT if engine_name == "whisper" else folder
    with pytest.raises(ModelError, match=r"There is no (device|GPU)") as caught:
        load_transcriber(load_settings(), str(model))
    assert "WHISPER_DEVICE" in caught.value.fix


def test_an_engine_that_is_not_installed_raises_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISPER_ENGINE", "faster-whisper")
    monkeypatch.setattr(engine, "engines", lambda: ["whisper"])
    with pytest.raises(ModelError, match="faster-whisper is not installed") as caught:
        load_transcriber(load_settings())
    assert "pip install faster-whisper==1.2.1" in caught.value.fix


def test_both_engines_are_installed() -> None:
    assert engines() == ["whisper", "faster-whisper"]
