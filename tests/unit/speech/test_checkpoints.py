"""Invalid, damaged and too large checkpoints raise clear errors, and the precision is chosen by a trial."""

import pickle
import zipfile
from pathlib import Path

import pytest

from pbx import operating_system
from pbx.errors import ModelError
from pbx.speech import checkpoints
from pbx.speech.checkpoints import load_network
from tests.unit.speech.synthetic_speech import CHECKPOINT


def test_a_text_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("<html>Not found</html>")
    with pytest.raises(ModelError, match=r"model\.pt is not a Whisper checkpoint") as caught:
        load_network(path, "base", "cpu", "fp32")
    assert "Download the model again" in caught.value.fix


def test_loading_a_malicious_pickle_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    path.write_bytes(pickle.dumps({"dims": Malicious(), "model_state_dict": {}}))
    with pytest.raises(ModelError, match="not a Whisper checkpoint"):
        load_network(path, "base", "cpu", "fp32")
    assert not (tmp_path / "ran").exists()


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(CHECKPOINT.read_bytes()[:500_000])
    with pytest.raises(ModelError, match="not a Whisper checkpoint"):
        load_network(path, "base", "cpu", "fp32")


def test_a_missing_checkpoint_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        load_network(tmp_path / "model.pt", "base", "cpu", "fp32")


IMPOSSIBLE = {
    "odd widths": {"n_audio_state": 81, "n_text_state": 81, "n_audio_head": 1, "n_text_head": 1},
    "a width of two": {"n_audio_state": 2, "n_text_state": 2, "n_audio_head": 1, "n_text_head": 1},
    "two widths": {"n_text_state": 84},
    "heads that don't divide": {"n_audio_head": 3},
    "more heads than width": {"n_text_head": 160},
    "no head": {"n_text_head": 0},
    "a million layers": {"n_audio_layer": 999_999},
    "another number of mel bands": {"n_mels": 81},
    "another window length": {"n_audio_ctx": 1501},
    "too short a text": {"n_text_ctx": 2},
    "no vocabulary": {"n_vocab": 100},
    "a boolean for a number": {"n_text_layer": True},
    "a fraction": {"n_audio_state": 80.5},
    "a text": {"n_mels": "80"},
    "a number of 5,000 digits": {"n_vocab": 10**4999},
}


@pytest.mark.parametrize("dims", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_checkpoint_of_impossible_dimensions_is_damaged(tmp_path: Path, dims: dict[str, object]) -> None:
    import torch

    content = torch.load(CHECKPOINT, weights_only=True)
    content["dims"].update(dims)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"model\.pt is (damaged|not a Whisper checkpoint)") as caught:
        load_network(tmp_path / "model.pt", "base", "cpu", "fp32")
    assert caught.value.fix


@pytest.mark.parametrize("kind", ["sparse", "integer", "text", "none", "complex"])
def test_weights_of_the_wrong_type_are_damaged(tmp_path: Path, kind: str) -> None:
    import torch

    content = torch.load(CHECKPOINT, weights_only=True)
    name = "decoder.token_embedding.weight"
    old = content["model_state_dict"][name]
    replacements = {"sparse": old.to_sparse(), "integer": old.to(torch.int32), "text": "x", "none": None}
    content["model_state_dict"][name] = replacements.get(kind, old.to(torch.complex64))
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=r"model\.pt is damaged"):
        load_network(tmp_path / "model.pt", "base", "cpu", "fp32")


@pytest.mark.parametrize("content", [[], {"dims": [], "model_state_dict": []}, {"dims": {}, "model_state_dict": 7}])
def test_a_checkpoint_with_parts_of_the_wrong_type_is_refused(tmp_path: Path, content: object) -> None:
    import torch

    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="not a Whisper checkpoint"):
        load_network(tmp_path / "model.pt", "base", "cpu", "fp32")


def test_a_compressed_checkpoint_counts_with_its_uncompressed_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(50_000_000))
    monkeypatch.setattr(operating_system, "free_memory_bytes", lambda: 340_000_000)
    with pytest.raises(ModelError, match=r"needs about 0\.3 GB of memory"):
        load_network(tmp_path / "model.pt", "base", "cpu", "fp32")


@pytest.mark.parametrize("device", ["tpu9", "", "cuda:-2", "cuda:99"])
def test_the_error_of_an_unknown_device_names_the_setting(device: str) -> None:
    with pytest.raises(ModelError) as caught:
        checkpoints.pick_device(device)
    assert "WHISPER_DEVICE" in caught.value.fix


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("dims"), "lacks the model's dimensions"),
        (lambda c: c["dims"].pop("n_mels"), "is damaged"),
        (lambda c: c["dims"].update(n_vocab=-4), "is damaged"),
        (lambda c: c["dims"].update(n_text_layer=3), "is damaged"),
        (lambda c: c["model_state_dict"].popitem(), "is damaged"),
    ],
)
def test_an_inconsistent_checkpoint_is_damaged(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    import torch

    content = torch.load(CHECKPOINT, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=message):
        load_network(tmp_path / "model.pt", "base", "cpu", "fp32")


def test_a_model_too_large_for_memory_is_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating_system, "free_memory_bytes", lambda: 301_000_000)
    with pytest.raises(ModelError, match=r"needs about 0\.3 GB of memory; 0\.3 GB are free") as caught:
        load_network(CHECKPOINT, "micro", "cpu", "fp32")
    assert "smaller model" in caught.value.fix


@pytest.mark.parametrize(("faster", "expected"), [(True, "bf16"), (False, "int8")])
def test_a_trial_chooses_the_precision_on_a_cpu(monkeypatch: pytest.MonkeyPatch, faster: bool, expected: str) -> None:
    monkeypatch.setattr(checkpoints, "_is_faster", lambda _: faster)
    assert checkpoints._pick_precision("cpu", "auto") == expected
    assert checkpoints._pick_precision("cuda", "auto") == "fp16"
    assert checkpoints._pick_precision("cpu", "fp32") == "fp32"


def test_a_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert checkpoints.pick_device("auto") == "cpu"
    with pytest.raises(ModelError, match="no GPU"):
        checkpoints.pick_device("cuda")


def test_threads_leave_one_core_for_the_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for cores, threads in ((1, 1), (2, 2), (3, 2), (16, 15)):
        monkeypatch.setattr(operating_system, "usable_cores", lambda n=cores: n)
        assert checkpoints.default_threads() == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert checkpoints.default_threads() == 4
