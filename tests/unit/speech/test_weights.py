"""Weights come from real servers on loopback that cut, lie and refuse; what is said then names address and place."""

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

CONTENT = bytes(range(256)) * 16_384  # 4 MiB: many chunks, and so is a sixteenth of it
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
    """Holds "base" for both engines, in place of the real servers."""
    with weight_server() as running:
        running.files = {PATH: CONTENT} | {HUB + name: content for name, content in HUB_FILES.items()}
        real = known_models("whisper")
        known = {"whisper": real | {"base": running.url + PATH}, "faster-whisper": known_models("faster-whisper")}
        monkeypatch.setattr(weights, "known_models", known.__getitem__)
        monkeypatch.setattr(weights, "_WAIT_S", 0.0)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_the_names_are_those_of_the_engines() -> None:
    import faster_whisper
    import whisper

    assert list(known_models("whisper")) == whisper.available_models()
    assert list(known_models("faster-whisper")) == faster_whisper.available_models()


def test_names_and_presence_need_no_import_of_an_engine(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pbx.speech.weights import is_present, known_models\n"
        f"print(len(known_models('whisper')), is_present('base', 'whisper', Path({str(tmp_path)!r})))\n"
        "print([m for m in ('torch', 'whisper', 'faster_whisper', 'ctranslate2') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[1] == "[]"
    assert run.stdout.split()[1] == "False"


def test_a_model_is_downloaded_once_and_checked(server: WeightServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = find_weights("base", "whisper", tmp_path / "models", lambda done, total: seen.append((done, total)))
    assert found == tmp_path / "models" / "base.pt"
    assert found.read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert is_present("base", "whisper", tmp_path / "models")
    assert find_weights("base", "whisper", tmp_path / "models") == found
    assert len(server.requested) == 1
    assert [path.name for path in found.parent.iterdir() if not path.name.startswith(".")] == ["base.pt"]


@pytest.mark.parametrize("tells", [True, False])
def test_a_model_of_faster_whisper_is_a_folder_of_files(server: WeightServer, tmp_path: Path, tells: bool) -> None:
    server.tells_checksums = tells
    found = find_weights("base", "faster-whisper", tmp_path)
    assert found == tmp_path / "faster-whisper-base"
    assert {path.name: path.read_bytes() for path in found.iterdir() if not path.name.startswith(".")} == HUB_FILES
    assert is_present("base", "faster-whisper", tmp_path)
    (found / "model.bin").unlink()
    assert not is_present("base", "faster-whisper", tmp_path)
    server.requested.clear()
    find_weights("base", "faster-whisper", tmp_path)  # of the files that must be there, only what is missing
    assert [path for path, _ in server.requested if "preprocessor" not in path] == [
        f"{HUB}model.bin",
        f"/moved{HUB}model.bin",
    ]


@pytest.mark.parametrize("engine", ["whisper", "faster-whisper"])
def test_a_line_that_is_cut_twice_is_taken_up_where_it_was_cut(
    server: WeightServer, tmp_path: Path, engine: str
) -> None:
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / "faster-whisper-base").mkdir(exist_ok=True)
        (tmp_path / "faster-whisper-base" / name).write_bytes(HUB_FILES[name])
    server.faults = [cut_off, cut_off]
    found = find_weights("base", engine, tmp_path)
    whole = found if found.is_file() else found / "model.bin"
    assert whole.read_bytes() == CONTENT
    half, quarter = len(CONTENT) // 2, len(CONTENT) // 4
    spans = [span for path, span in server.requested if path.endswith(".pt") or path.startswith("/moved")]
    assert spans == ["", f"bytes={half}-", f"bytes={half + quarter}-"]


def test_a_line_that_is_always_cut_fails_with_what_came_and_goes_on_next_time(
    server: WeightServer, tmp_path: Path
) -> None:
    server.faults = [cut_off] * 4
    with pytest.raises(ModelError, match=r"connection to 127\.0\.0\.1:[0-9]+ broke") as caught:
        find_weights("base", "whisper", tmp_path)
    assert f"{server.url}{PATH}" in caught.value.fix
    assert str(tmp_path / "base.pt") in caught.value.fix
    assert not (tmp_path / "base.pt").exists()
    server.requested.clear()
    assert find_weights("base", "whisper", tmp_path).read_bytes() == CONTENT
    assert server.requested == [(PATH, f"bytes={len(CONTENT) * 15 // 16}-")]


def dripping(head: bytes, body: bytes = b"", every_s: float = 0.02) -> Any:
    """Send this, then a byte now and then, for as long as somebody listens."""

    def answer(handler: Any, content: bytes, begin: int) -> None:
        with suppress(OSError):
            handler.connection.sendall(head)
            for _ in range(10_000):
                handler.connection.sendall(body or b"x")
                time.sleep(every_s)

    return answer


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "fault",
    [
        dripping(HEAD + b"X: "),
        dripping(HEAD + b"Content-Length: 1000000\r\n\r\n"),
        dripping(HEAD + b"Connection: close\r\n\r\n"),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1"),
    ],
    ids=["headers", "body", "body without a length", "chunks", "a chunk's length"],
)
def test_a_server_that_drips_is_given_up(
    server: WeightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setattr(weights, "_LONGEST_S", 0.6)
    server.faults = [fault] * 9
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r"took more than|broke") as caught:
        find_weights("base", "whisper", tmp_path)
    assert time.monotonic() - begun < 5
    assert server.url in caught.value.fix


def test_a_server_slower_than_the_least_rate_is_given_up(
    server: WeightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_PACE_S", 0.2)
    server.faults = [dripping(HEAD + b"Content-Length: 1000000\r\n\r\n")] * 9
    with pytest.raises(ModelError, match="less than 5,000 bytes a second"):
        find_weights("base", "whisper", tmp_path)


@pytest.mark.parametrize("length", [b"9" * 5000, b"-7", "²".encode("latin-1")])
def test_a_length_that_is_no_number_is_no_length(server: WeightServer, tmp_path: Path, length: bytes) -> None:
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
        server.faults = [dripping(HEAD + announced + b"\r\n", bytes(100_000), 0)]
        with pytest.raises(ModelError, match="more than any model"):
            find_weights("base", "whisper", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_json_nested_without_end_is_not_taken(server: WeightServer, tmp_path: Path) -> None:
    server.files[f"{HUB}config.json"] = b"[" * 200_000
    with pytest.raises(ModelError, match="content does not match its name"):
        find_weights("base", "faster-whisper", tmp_path)


def test_a_busy_server_gets_another_request(server: WeightServer, tmp_path: Path) -> None:
    server.faults = [busy, busy]
    assert find_weights("base", "whisper", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("engine", ["whisper", "faster-whisper"])
def test_a_wrong_checksum_leaves_no_file(server: WeightServer, tmp_path: Path, engine: str) -> None:
    small = [lambda handler, content, begin: handler.send(content, begin)] * 3
    server.faults = [damaged] if engine == "whisper" else [*small, damaged]
    with pytest.raises(ModelError, match="checksum is wrong; it was removed") as caught:
        find_weights("base", engine, tmp_path)
    assert server.url in caught.value.fix
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(("base.pt", "model.bin"))] == []


def test_a_part_of_something_else_is_thrown_away_and_the_whole_fetched(server: WeightServer, tmp_path: Path) -> None:
    for left in (bytes(1000), bytes(len(CONTENT)), bytes(len(CONTENT) + 10)):
        (tmp_path / "base.pt.part").write_bytes(left)
        found = find_weights("base", "whisper", tmp_path)
        assert found.read_bytes() == CONTENT
        found.unlink()


@pytest.mark.parametrize(
    ("fault", "words"), [(web_page, "answered with a web page"), (forbidden, "answered 403"), (busy, "answered 503")]
)
@pytest.mark.parametrize("engine", ["whisper", "faster-whisper"])
def test_a_server_that_sends_no_weights_is_quoted(
    server: WeightServer, tmp_path: Path, fault: object, words: str, engine: str
) -> None:
    server.faults = [fault] * 9  # type: ignore[list-item]
    with pytest.raises(ModelError, match=words):
        find_weights("base", engine, tmp_path)
    assert not is_present("base", engine, tmp_path)


def test_json_that_is_none_is_not_taken(server: WeightServer, tmp_path: Path) -> None:
    server.files[f"{HUB}config.json"] = b"not found here"
    with pytest.raises(ModelError, match="content does not match its name"):
        find_weights("base", "faster-whisper", tmp_path)


@pytest.mark.parametrize("engine", ["whisper", "faster-whisper"])
def test_a_file_that_is_not_there_is_named(server: WeightServer, tmp_path: Path, engine: str) -> None:
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


def test_the_real_addresses_hold_their_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    for name in known_models("whisper"):
        (link,) = downloads_of(name, "whisper", tmp_path)
        assert link.urls[0].startswith("https://")
        assert len(bytes.fromhex(link.sha256 or "")) == 32
    hub = [url for link in downloads_of("large-v3", "faster-whisper", tmp_path) for url in link.urls]
    assert "https://huggingface.co/Systran/faster-whisper-large-v3/resolve/main/model.bin" in hub


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no speech model “bass”") as caught:
        find_weights("bass", "whisper", tmp_path)
    assert "tiny.en, tiny, base.en, base, small" in caught.value.fix


def test_a_path_is_used_as_it_is(tmp_path: Path) -> None:
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


def test_a_model_of_ones_own_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "calls.pt").write_bytes(b"weights")
    assert find_weights("calls", "whisper", tmp_path) == tmp_path / "calls.pt"
    assert find_weights("calls.pt", "whisper", tmp_path) == tmp_path / "calls.pt"
    folder = tmp_path / "ours"
    folder.mkdir()
    for name, content in HUB_FILES.items():
        (folder / name).write_bytes(content)
    assert find_weights("ours", "faster-whisper", tmp_path) == folder


def test_a_disk_too_small_is_reported_before_anything_is_written(
    server: WeightServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageFull, match="Not enough disk space for the speech model"):
        find_weights("base", "whisper", tmp_path)


@needs_linux
def test_a_disk_that_fills_up_leaves_no_file(server: WeightServer, tmp_path: Path) -> None:
    (tmp_path / "base.pt.part").symlink_to("/dev/full")
    with pytest.raises(StorageFull):
        find_weights("base", "whisper", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".base")] == []


def test_a_place_that_cant_be_written_to_is_named(server: WeightServer, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=str(tmp_path / "models")):
        find_weights("base", "whisper", tmp_path / "models")


def _find(models_dir: Path, url: str, results: "multiprocessing.Queue[str]") -> None:
    weights.known_models = {"whisper": {"base": url}}.__getitem__  # type: ignore[assignment]
    results.put(str(find_weights("base", "whisper", models_dir)))


def test_two_processes_at_once_download_once(server: WeightServer, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    both = [context.Process(target=_find, args=(tmp_path, server.url + PATH, results)) for _ in range(2)]
    for process in both:
        process.start()
    assert {results.get(timeout=60) for _ in both} == {str(tmp_path / "base.pt")}
    for process in both:
        process.join()
    assert len(server.requested) == 1
