"""Finds the weights of speech models on this machine, and downloads them.

Names and addresses come from the source of the installed engines. Importing the engines would take seconds and
hundreds of megabytes, and pages use this module too.
"""

import ast
import contextlib
import errno
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from pbx.errors import DataError, ModelError, StorageFull
from pbx.operating_system import replace_file
from pbx.process_lock import file_lock
from pbx.timed_http import POOLS, OutOfTime, announced_bytes, time_limit

ENGINES = ("whisper", "faster-whisper")
PIP_LINES = {"whisper": "pip install openai-whisper==20250625", "faster-whisper": "pip install faster-whisper==1.2.1"}

DownloadProgress = Callable[[int, int], None]  # bytes received, bytes in total (0 while unknown)

PACKAGES = {"whisper": ("whisper", "__init__.py"), "faster-whisper": ("faster_whisper", "utils.py")}
_HUB = "https://huggingface.co"
# The files of a faster-whisper model; of each line the first that exists. The large one comes last.
_HUB_FILES = (("config.json",), ("tokenizer.json",), ("vocabulary.json", "vocabulary.txt"), ("model.bin",))
_HUB_EXTRA = "preprocessor_config.json"  # only in newer models
_CHUNK_BYTES = 1 << 16  # also the most that a broken connection loses
_TRIES = 4
_WAIT_S = 1.0  # before the second try, then doubled
_TIMEOUT_S = (15.0, 60.0)  # to connect, and between two reads
_LONGEST_S = 6 * 3600.0  # for a file with all its tries: the largest model at 150 kB a second
_PACE_S, _LEAST_BYTES_PER_S = 60.0, 5_000  # the slowest average of a minute; a slower try has failed
_MAX_BYTES = {".pt": 20_000_000_000, ".bin": 20_000_000_000}  # of a file by its extension, more than any model
_MAX_OTHER_BYTES = 100_000_000  # of any other file
_LEAST_FREE_BYTES = 500_000_000  # space that a file of unknown length leaves on the disk
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class WeightsDownload:
    """A file to download into `folder` under its own name: the first of `urls` that exists."""

    urls: tuple[str, ...]
    folder: Path
    sha256: str | None = None  # None: the server's, if it sends one
    optional: bool = False

    @property
    def targets(self) -> tuple[Path, ...]:
        """The path for each address's file."""
        return tuple(self.folder / url.rpartition("/")[2] for url in self.urls)


class _NotFound(Exception):
    """The server doesn't have the file."""


class _DownloadFailed(Exception):
    """A download failed, with the reason for people.

    `retry`: another try may succeed; `discard`: the partial file is of no use.
    """

    def __init__(self, reason: str, *, retry: bool = False, discard: bool = False) -> None:
        super().__init__(reason)
        self.retry = retry
        self.discard = discard


@functools.cache
def known_models(engine: str) -> dict[str, str]:
    """Return the origin of each of an engine's models: an address, or a Hugging Face repository for "faster-whisper".

    Empty when the engine is not installed.
    """
    package, file = PACKAGES[engine]
    spec = importlib.util.find_spec(package)  # finds, doesn't import
    if spec is None or spec.origin is None:
        return {}
    source = (Path(spec.origin).parent / file).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_MODELS":
            return dict(ast.literal_eval(node.value))
    return {}


def downloads_of(model: str, engine: str, models_dir: Path) -> list[WeightsDownload]:
    """Return the downloads for a model's name. `HF_ENDPOINT` may name a mirror of the hub, as with other tools."""
    origin = known_models(engine)[model]
    if engine == "whisper":
        return [WeightsDownload((origin,), models_dir, sha256=origin.split("/")[-2])]
    folder = models_dir / _folder(origin)
    hub = f"{os.environ.get('HF_ENDPOINT', _HUB).rstrip('/')}/{origin}/resolve/main/"
    links = [WeightsDownload(tuple(hub + name for name in names), folder) for names in _HUB_FILES]
    return [WeightsDownload((hub + _HUB_EXTRA,), folder, optional=True), *links]


def locate_weights(model: str, engine: str, models_dir: Path) -> Path | None:
    """Return the path of a model's weights here, or None. `model`: a name or a path."""
    if model in known_models(engine):
        origin = known_models(engine)[model]
        found = models_dir / (origin.rpartition("/")[2] if engine == "whisper" else _folder(origin))
    else:
        places = (Path(model).expanduser(), models_dir / model, models_dir / f"{model}.pt")
        found = next((place for place in places if place.exists()), places[0])
    is_complete = found.is_file() if engine == "whisper" else all(_present(found, names) for names in _HUB_FILES)
    return found if is_complete else None


def is_present(model: str, engine: str, models_dir: Path) -> bool:
    """Whether `find_weights` would find the model without a download."""
    return locate_weights(model, engine, models_dir) is not None


def find_weights(model: str, engine: str, models_dir: Path, progress: DownloadProgress | None = None) -> Path:
    """Return the checkpoint ("whisper") or the folder ("faster-whisper") of a model; download it when missing.

    `model`: one of the engine's names, a path, or the name of a file or folder in `models_dir`. A download continues
    where an earlier one broke off. One process downloads at a time; others wait for it. Raises ModelError, with
    addresses and target folder, when the model doesn't exist or can't be downloaded; StorageFull or DataError when it
    can't be written.
    """
    if found := locate_weights(model, engine, models_dir):
        return found
    if model not in known_models(engine):
        raise _unknown(model, engine, models_dir)
    links = downloads_of(model, engine, models_dir)
    folder = links[0].folder
    try:
        with _download_lock(folder, model):
            if not (found := locate_weights(model, engine, models_dir)):
                for link in links:
                    _fetch(link, progress)
                found = locate_weights(model, engine, models_dir)
    except _DownloadFailed as error:
        raise ModelError(
            f"The speech model “{model}” could not be downloaded: {error}.", _manual_download(links)
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    if found is None:
        raise ModelError(f"The speech model “{model}” was downloaded, but files are missing.", _manual_download(links))
    return found


def _folder(repository: str) -> str:
    return repository.rpartition("/")[2]


def _present(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def _unknown(model: str, engine: str, models_dir: Path) -> ModelError:
    if not known_models(engine):
        return ModelError(f"The speech engine {engine} is not installed.", f"Install it with: {PIP_LINES[engine]}")
    kind = "file (.pt)" if engine == "whisper" else "folder with model.bin, config.json, tokenizer.json and vocabulary"
    names = ", ".join(known_models(engine))
    path = Path(model).expanduser()
    if path.exists():
        other = "whisper" if engine == "faster-whisper" else "faster-whisper"
        return ModelError(
            f"{model} is not a model of the engine {engine}: that is a {kind}.",
            f"Name another one in WHISPER_MODEL, or set WHISPER_ENGINE to {other} if the model is for that engine.",
        )
    if path.suffix or len(path.parts) > 1:
        fix = f"Set WHISPER_MODEL to the path of a {kind}, or to one of: {names}."
        return ModelError(f"There is no speech model at {path.absolute()}.", fix)
    return ModelError(
        f"The engine {engine} knows no speech model “{model}”.",
        f"Set WHISPER_MODEL to one of: {names}; or to the path of a {kind}, or its name in {models_dir.absolute()}.",
    )


def _manual_download(links: list[WeightsDownload]) -> str:
    """Describe how to fetch the files by hand: from which addresses, into which folder."""
    wanted = [link for link in links if not link.optional]
    if len(links) == 1:
        return (
            f"Fetch {wanted[0].urls[0]} on a machine with internet access and save it as "
            f"{wanted[0].targets[0].absolute()}; then try again."
        )
    urls = "; ".join(" (or, if that is not there, ".join(link.urls) + ")" * (len(link.urls) - 1) for link in wanted)
    extra = "".join(f"; {link.urls[0]} if it is there" for link in links if link.optional)
    return (
        f"Fetch these files on a machine with internet access and put them, under the same names, into "
        f"{wanted[0].folder.absolute()}: {urls}{extra}. Then try again."
    )


def _unwritable(folder: Path, error: OSError) -> DataError:
    if error.errno in _NO_ROOM:
        return StorageFull(
            f"Not enough disk space for the speech model in {folder.absolute()}.", "Free disk space, then try again."
        )
    fix = "Give the account that runs the worker the right to write there."
    return DataError(f"Nothing can be written to {folder.absolute()}: {error.strerror}.", fix)


@contextlib.contextmanager
def _download_lock(folder: Path, model: str) -> Iterator[None]:
    """Keep other processes from downloading this model meanwhile. The system frees the lock however this one ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / f".{model}.lock"):
        yield


def _fetch(link: WeightsDownload, progress: DownloadProgress | None) -> None:
    """Download and check one file, or raise _DownloadFailed."""
    if any(target.is_file() for target in link.targets):  # from an earlier, incomplete download
        return
    for url, target in zip(link.urls, link.targets, strict=True):
        with contextlib.suppress(_NotFound):
            _fetch_one(url, target, link.sha256, progress)
            return
    if not link.optional:
        raise _DownloadFailed(f"the server has no {link.urls[-1]} (404)")


class _TimedAdapter(HTTPAdapter):
    """Gives Requests timed connections, through proxies too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # which needs its own connections
            manager.pool_classes_by_scheme = POOLS
        return manager


def _fetch_one(url: str, target: Path, sha256: str | None, progress: DownloadProgress | None) -> None:
    part = target.with_name(f"{target.name}.part")
    with time_limit(_LONGEST_S), requests.Session() as session:
        session.mount("http://", _TimedAdapter())
        session.mount("https://", _TimedAdapter())
        for attempt in range(_TRIES):
            try:
                _stream(session, url, part, sha256, progress)
                break
            except OutOfTime:
                raise _DownloadFailed(f"{urlsplit(url).netloc} took more than {_LONGEST_S / 3600:g} hours") from None
            except (_DownloadFailed, requests.RequestException, urllib3.exceptions.HTTPError) as error:
                failed = (
                    error if isinstance(error, _DownloadFailed) else _DownloadFailed(_reason_of(url, error), retry=True)
                )
                if failed.discard:
                    part.unlink(missing_ok=True)
                if not failed.retry or attempt == _TRIES - 1:
                    raise failed from None
                time.sleep(_WAIT_S * 2**attempt)
            except OSError as error:
                if error.errno in _NO_ROOM:  # the partial file takes space from everything else
                    part.unlink(missing_ok=True)
                raise
    replace_file(part, target)


def _stream(
    session: requests.Session, url: str, part: Path, sha256: str | None, progress: DownloadProgress | None
) -> None:
    """Append the missing bytes to `part`, and check it.

    Raises _DownloadFailed, _NotFound, OutOfTime, OSError, and the errors of requests and urllib3.
    """
    begun = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        if answer.status_code == 416:  # the part is as long as the file or longer: not its beginning
            part.unlink(missing_ok=True)
            raise _DownloadFailed("a partial file of an earlier download does not fit", retry=True)
        _check_answer(answer, part)
        if answer.status_code != 206:
            begun = 0
        total = begun + (announced_bytes(answer.headers.get("Content-Length", "")) or 0)
        _check_size(total, url)
        if shutil.disk_usage(part.parent).free < total - begun:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        digest = _digest(part, begun)
        done = begun
        with part.open("ab" if begun else "wb") as file:
            for chunk in _received_chunks(answer, url):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if done > total:
                    _check_size(done, url)
                    if shutil.disk_usage(part.parent).free < _LEAST_FREE_BYTES:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if progress:
                    progress(done, total)
    if total > begun and done < total:
        raise _DownloadFailed(f"the connection broke after {done:,} of {total:,} bytes", retry=True)
    wanted = sha256 or _announced_checksum(answer)
    if (wanted and digest.hexdigest() != wanted) or not (wanted or _is_sound(part, url)):
        part.unlink(missing_ok=True)
        # The cause may be a partial file that is damaged or of another version, so start again once.
        reason = "its checksum is wrong" if wanted else "its content does not match its name"
        raise _DownloadFailed(f"the file from {url} is damaged: {reason}; it was removed", retry=begun > 0)


def _received_chunks(answer: requests.Response, url: str) -> Iterator[bytes]:
    """Yield an answer's bytes. Raises _DownloadFailed when they arrive too slowly."""
    measured_at, measured_bytes = time.monotonic(), 0
    while chunk := answer.raw.read1(_CHUNK_BYTES, decode_content=False):
        yield chunk
        measured_bytes += len(chunk)
        took_s = time.monotonic() - measured_at
        if took_s > _PACE_S:
            if measured_bytes < _LEAST_BYTES_PER_S * took_s:
                slow = f"less than {_LEAST_BYTES_PER_S:,} bytes a second"
                raise _DownloadFailed(f"{urlsplit(url).netloc} sends {slow}", retry=True)
            measured_at, measured_bytes = measured_at + took_s, 0


def _check_size(size: int, url: str) -> None:
    most = _MAX_BYTES.get(Path(url).suffix, _MAX_OTHER_BYTES)
    if size > most:
        raise _DownloadFailed(f"{url} has more than {most / 1e9:g} GB, more than any model", discard=True)


def _check_answer(answer: requests.Response, part: Path) -> None:
    status = answer.status_code
    if status in (404, 410):
        raise _NotFound
    if status not in (200, 206):
        may_recover = status >= 500 or status == 429
        raise _DownloadFailed(f"{answer.url} answered {status} {answer.reason}", retry=may_recover)
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        part.unlink(missing_ok=True)
        raise _DownloadFailed(
            f"{answer.url} answered with a web page instead of a file, probably from a proxy or a sign-in page"
        )


def _digest(part: Path, length: int) -> "hashlib._Hash":
    digest = hashlib.sha256()
    if length:
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest


def _announced_checksum(answer: requests.Response) -> str | None:
    """Return the SHA-256 that the hub sends when it redirects to a large file."""
    for hop in (*answer.history, answer):
        checksum = hop.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", checksum):
            return checksum
    return None


def _is_sound(part: Path, url: str) -> bool:
    """Whether a file without a checksum looks complete."""
    if not url.endswith(".json"):
        return part.stat().st_size > 0
    try:
        json.loads(part.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return True


def _reason_of(url: str, error: requests.RequestException | urllib3.exceptions.HTTPError) -> str:
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.SSLError):
        return f"{host} can't be trusted: its certificate is not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy on the way to {host} refused"
    if isinstance(error, requests.ConnectTimeout):
        return f"{host} didn't answer in {_TIMEOUT_S[0]:.0f} s"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"{host} stopped sending data"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | urllib3.exceptions.HTTPError):
        return f"the connection to {host} broke"
    return f"{host} can't be reached"
