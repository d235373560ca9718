"""Model weights are downloaded from servers on loopback with every fault; errors name the URL and the folder."""

import hashlib
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pbx.errors import DataError, ModelError, StorageFull
from pbx.speech import weights
from pbx.speech.weights import downloads_of, find_weights, is_present, known_models
from tests.operating_systems import needs_linux
from tests.unit.speech.weight_server import WeightServer, busy, cut_off, damaged, forbidden, web_page, weight_server

CONTENT = bytes(range(256)) * 16_384  # 4 MiB: even a sixteenth of it is many chunks
PATH = f"/models/{hashlib.sha256(CONTENT).hexdigest()}/base.pt"
HUB = "/Systran/faster-whisper-base/resolve/main/"
HUB_FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "vocabulary.txt": b"a\nb\n",
    "model.bin": CONTENT,
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightServer]:
    """Serves the model "base" of both engines instead of the real servers."""
    with weight_server() as local_server:
        local_server.files = {PATH: CONTENT} | {HUB + name: content for name, content in HUB_FILES.items()}
        real = known_models("whisper")
        urls = {"whisper": real | {"base": local_server.url + PATH}, "faster-whisper": known_models("faster-whisper")}
        monkeypatch.setattr(weights, "known_models", urls.__getitem__)
        monkeypatch.setattr(weights, "_WAIT_S", 0.0)
        monkeypatch.setenv("HF_ENDPOINT", local_server.url)
        yield local_server


def test_the_known_models_equal_those_of_the_engines() -> None:
    import faster_whisper
    import whisper

    assert list(known_models("whisper")) == whisper.available_models()
    assert list(known_models("faster-whisper")) == faster_whisper.available_models()


def test_names_and_presence_are_known_without_importing_an_engine(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pbx.speech.weights import is_present, known_models\n"
        f"print(len(known_models('whisper')), is_present('base', 'whisper', Path({str(tmp_path)!r})))\n"
        "print([m for m in ('torch', 'whisper', 'faster_whisper', 'ctranslate2') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split("\n")[1] == "[]"
    assert process.stdout.split()[1] == "False"


def test_a_model_is_downloaded_once_and_checked(server: WeightServer, tmp_path: Path) -> None:
    progress_seen: list[tuple[int, int]] = []
    found = find_weights(
        "base", "whisper", tmp_path / "models", lambda done, total: progress_seen.append((done, total))
    )
    assert found == tmp_path / "models" / "base.pt"
    assert found.read_bytes() == CONTENT
    assert progress_seen == sorted(progress_seen)
    assert len(progress_seen) > 1
    assert progress_seen[-1] == (len(CONTENT), len(CONTENT))
    assert is_present("base", "whisper", tmp_path / "models")
    assert find_weights("base", "whisper", tmp_path / "models") == found
    assert len(server.requested) == 1
    assert [path.name for path in found.parent.iterdir() if not path.name.startswith(".")] == ["base.pt"]


@pytest.mark.parametrize("sends_checksums", [True, False])
def test_a_model_of_faster_whisper_is_a_folder_of_files(
    server: WeightServer, tmp_path: Path, sends_checksums: bool
) -> None:
    server.sends_checksums = sends_checksums
    found = find_weights("base", "faster-whisper", tmp_path)
    assert found == tmp_path / "faster-whisper-base"
    assert {path.name: path.read_bytes() for path in found.iterdir() if not path.name.startswith(".")} == HUB_FILES
    assert is_present("base", "faster-whisper", tmp_path)
    (found / "model.bin").unlink()
    assert not is_present("base", "faster-whisper", tmp_path)
    server.requested.clear()
    find_weights("base", "faster-whisper", tmp_path)  # downloads only the missing one of the required files
    assert [path for path, _ in server.requested if "preprocessor" not in path] == [
        f"{HUB}model.bin",
        f"/moved{HUB}model.bin",
    ]


@pytest.mark.parametrize("engine", ["whisper", "faster-whisper"])
def test_a_download_that_is_cut_off_twice_continues_where_it_stopped(
    server: WeightServer, tmp_path: Path, engine: str
) -> None:
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / "faster-whisper-base").mkdir(exist_ok=True)
        (tmp_path / "faster-whisper-base" / name).write_bytes(HUB_FILES[name])
    server.faults = [cut_off, cut_off]
    found = find_weights("base", engine, tmp_path)
    complete_file = found if found.is_file() else found / "model.bin"
    assert complete_file.read_bytes() == CONTENT
    half, quarter = len(CONTENT) // 2, len(CONTENT) // 4
    spans = [span for path, span in server.requested if path.endswith(".pt") or path.startswith("/moved")]
    assert spans == ["", f"bytes={half}-", f"bytes={half + quarter}-"]


def test_a_download_that_is_always_cut_off_fails_and_continues_next_time(server: WeightServer, tmp_path: Path) -> None:
    server.faults = [cut_off] * 4
    with pytest.raises(ModelError, match=r"connection to 127\.0\.0\.1:[0-9]+ broke") as caught:
        find_weights("base", "whisper", tmp_path)
    assert f"{server.url}{PATH}" in caught.value.fix
    assert str(tmp_path / "base.pt") in caught.value.fix
    assert not (tmp_path / "base.pt").exists()
    server.requested.clear()
    assert find_weights("base", "whisper", tmp_path).read_bytes() == CONTENT
    assert server.requested == [(PATH, f"bytes={len(CONTENT) * 15 // 16}-")]


def send_slowly(head: bytes, body: bytes = b"", every_s: float = 0.02) -> Any:
    """A fault: send `head`, then `body` repeatedly at this interval until the client closes the connection."""

    def respond(handler: Any, content: bytes, begin: int) -> None:
        with suppress(OSError):
            handler.connection.sendall(head)
            for _ in range(10_000):
                handler.connection.sendall(body or b"x")
                time.sleep(every_s)

    return respond


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "fault",
    [
        send_slowly(HEAD + b"X: "),
        send_slowly(HEAD + b"Content-Length: 1000000\r\n\r\n"),
        send_slowly(HEAD + b"Connection: close\r\n\r\n"),
        send_slowly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        send_slowly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1"),
    ],
    ids=["headers", "body", "body without a length", "chunks", "a chunk's length"],
)
def test_a_download_that_takes_too_long_fails(
    server: WeightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(weights, "_LONGEST_S", 0.6)
    server.faults = [fault] * 9
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"took more than|broke") as caught:
        find_weights("base", "whisper", tmp_path)
    assert time.monotonic() - started < 5
    assert server.url in caught.value.fix


def test_a_download_below_the_minimum_rate_fails(
    server: WeightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_PACE_S", 0.2)
    server.faults = [send_slowly(HEAD + b"Content-Length: 1000000\r\n\r\n")] * 9
    with pytest.raises(ModelError, match="less than 5,000 bytes a second"):
        find_weights("base", "whisper", tmp_path)


@pytest.mark.parametrize("length", [b"9" * 5000, b"-7", "²".encode("latin-1")])
def test_an_invalid_content_length_is_ignored(server: WeightServer, tmp_path: Path, length: bytes) -> None:
    server.faults = [
        lambda handler, content, begin: handler.connection.sendall(
            HEAD + b"Connection: close\r\nContent-Length: " + length + b"\r\n\r\n" + content
        )
    ]
    assert find_weights("base", "whisper", tmp_path).read_bytes() == CONTENT


def test_a_file_larger_than_any_model_is_refused(
    server: WeightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_MAX_BYTES", {".pt": 1_000_000})
    for announced in (b"Content-Length: 10000000000\r\n", b"Connection: close\r\n"):
        server.faults = [send_slowly(HEAD + announced + b"\r\n", bytes(100_000), 0)]
        with pytest.raises(ModelError, match="more than any model"):
            find_weights("base", "whisper", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_deeply_nested_json_is_refused(server: WeightServer, tmp_path: Path) -> None:
    server.files[f"{HUB}config.json"] = b"[" * 200_000
    with pytest.raises(ModelError, match="content does not match its name"):
        find_weights("base", "faster-whisper", tmp_path)


def test_a_busy_server_is_tried_again(server: WeightServer, tmp_path: Path) -> None:
    server.faults = [busy, busy]
    assert find_weights("base", "whisper", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("engine", ["whisper", "faster-whisper"])
def test_a_wrong_checksum_leaves_no_file(server: WeightServer, tmp_path: Path, engine: str) -> None:
    small_files = [lambda handler, content, begin: handler.send(content, begin)] * 3
    server.faults = [damaged] if engine == "whisper" else [*small_files, damaged]
    with pytest.raises(ModelError, match="checksum is wrong; it was removed") as caught:
        find_weights("base", engine, tmp_path)
    assert server.url in caught.value.fix
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(("base.pt", "model.bin"))] == []


def test_a_partial_file_of_other_content_is_deleted_and_downloaded_again(server: WeightServer, tmp_path: Path) -> None:
    for partial in (bytes(1000), bytes(len(CONTENT)), bytes(len(CONTENT) + 10)):
        (tmp_path / "base.pt.part").write_bytes(partial)
        found = find_weights("base", "whisper", tmp_path)
        assert found.read_bytes() == CONTENT
        found.unlink()


@pytest.mark.parametrize(
    ("fault", "message"), [(web_page, "answered with a web page"), (forbidden, "answered 403"), (busy, "answered 503")]
)
@pytest.mark.parametrize("engine", ["whisper", "faster-whisper"])
def test_the_error_says_what_a_server_sent_instead_of_weights(
    server: WeightServer, tmp_path: Path, fault: object, message: str, engine: str
) -> None:
    server.faults = [fault] * 9  # type: ignore[list-item]
    with pytest.raises(ModelError, match=message):
        find_weights("base", engine, tmp_path)
    assert not is_present("base", engine, tmp_path)


def test_invalid_json_is_refused(server: WeightServer, tmp_path: Path) -> None:
    server.files[f"{HUB}config.json"] = b"not found here"
    with pytest.raises(ModelError, match="content does not match its name"):
        find_weights("base", "faster-whisper", tmp_path)


@pytest.mark.parametrize("engine", ["whisper", "faster-whisper"])
def test_the_error_names_a_file_that_the_server_lacks(server: WeightServer, tmp_path: Path, engine: str) -> None:
    server.files = {}
    with pytest.raises(ModelError, match=r"the server has no http.*404"):
        find_weights("base", engine, tmp_path)


def test_without_internet_the_error_names_addresses_and_folder(server: WeightServer, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelError, match=r"could not be downloaded: 127\.0\.0\.1.* can't be reached") as caught:
        find_weights("base", "whisper", tmp_path)
    assert caught.value.fix == (
        f"Fetch {server.url}{PATH} on a machine with internet access and save it as {tmp_path / 'base.pt'}; "
        "then try again."
    )
    with pytest.raises(ModelError, match="could not be downloaded") as caught:
        find_weights("base", "faster-whisper", tmp_path)
    for name in HUB_FILES:
        assert f"{server.url}{HUB}{name}" in caught.value.fix
    assert f"into {tmp_path / 'faster-whisper-base'}: " in caught.value.fix


def test_the_real_urls_contain_their_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    for name in known_models("whisper"):
        (link,) = downloads_of(name, "whisper", tmp_path)
        assert link.urls[0].startswith("https://")
        assert len(bytes.fromhex(link.sha256 or "")) == 32
    hub = [url for link in downloads_of("large-v3", "faster-whisper", tmp_path) for url in link.urls]
    assert "https://huggingface.co/Systran/faster-whisper-large-v3/resolve/main/model.bin" in hub


def test_the_error_of_an_unknown_name_lists_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no speech model “bass”") as caught:
        find_weights("bass", "whisper", tmp_path)
    assert "tiny.en, tiny, base.en, base, small" in caught.value.fix


def test_the_path_of_a_model_is_used_unchanged(tmp_path: Path) -> None:
    checkpoint = tmp_path / "own.pt"
    checkpoint.write_bytes(b"weights")
    models = tmp_path / "models"
    assert find_weights(str(checkpoint), "whisper", models) == checkpoint
    with pytest.raises(ModelError, match="There is no speech model at") as caught:
        find_weights(str(tmp_path / "other.pt"), "whisper", models)
    assert str(tmp_path / "other.pt") in str(caught.value)
    with pytest.raises(ModelError, match="not a model of the engine faster-whisper: that is a folder"):
        find_weights(str(checkpoint), "faster-whisper", models)
    with pytest.raises(ModelError, match="not a model of the engine whisper"):
        find_weights(str(tmp_path), "whisper", models)


def test_a_custom_model_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "calls.pt").write_bytes(b"weights")
    assert find_weights("calls", "whisper", tmp_path) == tmp_path / "calls.pt"
    assert find_weights("calls.pt", "whisper", tmp_path) == tmp_path / "calls.pt"
    folder = tmp_path / "ours"
    folder.mkdir()
    for name, content in HUB_FILES.items():
        (folder / name).write_bytes(content)
    assert find_weights("ours", "faster-whisper", tmp_path) == folder


def test_too_little_disk_space_is_reported_before_anything_is_written(
    server: WeightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageFull, match="Not enough disk space for the speech model"):
        find_weights("base", "whisper", tmp_path)


@needs_linux
def test_a_disk_that_fills_up_during_the_download_leaves_no_file(server: WeightServer, tmp_path: Path) -> None:
    (tmp_path / "base.pt.part").symlink_to("/dev/full")
    with pytest.raises(StorageFull):
        find_weights("base", "whisper", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".base")] == []


def test_the_error_names_a_folder_that_cannot_be_written_to(server: WeightServer, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=str(tmp_path / "models")):
        find_weights("base", "whisper", tmp_path / "models")


def _find(models_dir: Path, url: str, results: "multiprocessing.Queue[str]") -> None:
    weights.known_models = {"whisper": {"base": url}}.__getitem__  # type: ignore[assignment]
    results.put(str(find_weights("base", "whisper", models_dir)))


def test_two_processes_download_a_model_once(server: WeightServer, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_find, args=(tmp_path, server.url + PATH, results)) for _ in range(2)]
    for process in processes:
        process.start()
    assert {results.get(timeout=60) for _ in processes} == {str(tmp_path / "base.pt")}
    for process in processes:
        process.join()
    assert len(server.requested) == 1
