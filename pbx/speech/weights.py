"""The weights of speech models: where they lie, and how they get there when there is internet.

The names and addresses are those of the installed engines, read from their source: importing them takes seconds and
hundreds of megabytes, and the pages ask here too.
"""

import ast
import contextlib
import errno
import fcntl
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
from pbx.timed_http import POOLS, OutOfTime, announced_bytes, time_limit

ENGINES = ("whisper", "faster-whisper")
PIP_LINES = {"whisper": "pip install openai-whisper==20250625", "faster-whisper": "pip install faster-whisper==1.2.1"}

DownloadProgress = Callable[[int, int], None]  # bytes here, bytes in all (0 while that isn't known)

PACKAGES = {"whisper": ("whisper", "__init__.py"), "faster-whisper": ("faster_whisper", "utils.py")}
_HUB = "https://huggingface.co"
# A model of faster-whisper is a folder of these; the first that is there of each line. The large one comes last.
_HUB_FILES = (("config.json",), ("tokenizer.json",), ("vocabulary.json", "vocabulary.txt"), ("model.bin",))
_HUB_EXTRA = "preprocessor_config.json"  # only newer models have one
_CHUNK_BYTES = 1 << 16  # also what a cut line loses at most
_TRIES = 4
_WAIT_S = 1.0  # before the second try, twice as long before each later one
_TIMEOUT_S = (15.0, 60.0)  # to connect, and between two arrivals
_LONGEST_S = 6 * 3600.0  # for a file, with all its tries: the largest model at 150 kB a second
_PACE_S, _LEAST_BYTES_PER_S = 60.0, 5_000  # in each minute at least so much; a try that is slower has failed
_MOST_BYTES = {".pt": 20_000_000_000, ".bin": 20_000_000_000}  # of a file by its ending, beyond any model there is
_MOST_TEXT_BYTES = 100_000_000  # of all other files
_LEAST_FREE_BYTES = 500_000_000  # that a file of unknown length leaves on the disk
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class WeightsDownload:
    """A file to fetch into `folder` under its own name: one of `urls`, the first that exists."""

    urls: tuple[str, ...]
    folder: Path
    sha256: str | None = None  # None: whatever the server says, if it does
    optional: bool = False

    @property
    def targets(self) -> tuple[Path, ...]:
        """Where each of the addresses' files would lie."""
        return tuple(self.folder / url.rpartition("/")[2] for url in self.urls)


class _Gone(Exception):
    """The server has no such file."""


class _Failed(Exception):
    """Why a download failed, in words; `again` when another try may do better."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


@functools.cache
def known_models(engine: str) -> dict[str, str]:
    """Names of models to where they come from: an address for "whisper", a Hugging Face repository for the other.

    Empty where the engine is not installed.
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


def links_of(model: str, engine: str, models_dir: Path) -> list[WeightsDownload]:
    """What to fetch for a model by its name; `HF_ENDPOINT` names a mirror of the hub, as everywhere."""
    origin = known_models(engine)[model]
    if engine == "whisper":
        return [WeightsDownload((origin,), models_dir, sha256=origin.split("/")[-2])]
    folder = models_dir / _folder(origin)
    hub = f"{os.environ.get('HF_ENDPOINT', _HUB).rstrip('/')}/{origin}/resolve/main/"
    links = [WeightsDownload(tuple(hub + name for name in names), folder) for names in _HUB_FILES]
    return [WeightsDownload((hub + _HUB_EXTRA,), folder, optional=True), *links]


def locate_weights(model: str, engine: str, models_dir: Path) -> Path | None:
    """Return where a model's weights lie on this machine, or None. `model`: a name, or a path."""
    if model in known_models(engine):
        origin = known_models(engine)[model]
        found = models_dir / (origin.rpartition("/")[2] if engine == "whisper" else _folder(origin))
    else:
        places = (Path(model).expanduser(), models_dir / model, models_dir / f"{model}.pt")
        found = next((place for place in places if place.exists()), places[0])
    whole = found.is_file() if engine == "whisper" else all(_present(found, names) for names in _HUB_FILES)
    return found if whole else None


def is_present(model: str, engine: str, models_dir: Path) -> bool:
    """Whether `find_weights` would find the model without a download."""
    return locate_weights(model, engine, models_dir) is not None


def find_weights(model: str, engine: str, models_dir: Path, progress: DownloadProgress | None = None) -> Path:
    """Return the checkpoint ("whisper") or the folder ("faster-whisper") of a model, downloaded where need be.

    `model` is one of the engine's own names, else a path, or the name of a file or folder in `models_dir`. A download
    goes on where an earlier one was cut off, and only one process downloads at a time: others wait for it. Raises
    ModelError, with the addresses and the place for the files, when there is no such model or it can't be had;
    StorageFull or DataError when it can't be written.
    """
    if found := locate_weights(model, engine, models_dir):
        return found
    if model not in known_models(engine):
        raise _unknown(model, engine, models_dir)
    links = links_of(model, engine, models_dir)
    folder = links[0].folder
    try:
        with _alone(folder, model):
            if not (found := locate_weights(model, engine, models_dir)):
                for link in links:
                    _fetch(link, progress)
                found = locate_weights(model, engine, models_dir)
    except _Failed as error:
        raise ModelError(f"The speech model “{model}” could not be downloaded: {error}.", _by_hand(links)) from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    if found is None:
        raise ModelError(f"The speech model “{model}” was downloaded, but not all of it is there.", _by_hand(links))
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
            f"Name another one in WHISPER_MODEL, or set WHISPER_ENGINE to {other} if the model is made for that.",
        )
    if path.suffix or len(path.parts) > 1:
        fix = f"Set WHISPER_MODEL to the path of a {kind}, or to one of: {names}."
        return ModelError(f"There is no speech model at {path.absolute()}.", fix)
    return ModelError(
        f"The engine {engine} knows no speech model “{model}”.",
        f"Set WHISPER_MODEL to one of: {names}; or to the path of a {kind}, or its name in {models_dir.absolute()}.",
    )


def _by_hand(links: list[WeightsDownload]) -> str:
    """What to do without internet: which addresses, which place."""
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
            f"There is no room for the speech model in {folder.absolute()}.", "Make room; then try again."
        )
    fix = "Give the account that runs the worker the right to write there."
    return DataError(f"Nothing can be written to {folder.absolute()}: {error.strerror}.", fix)


@contextlib.contextmanager
def _alone(folder: Path, model: str) -> Iterator[None]:
    """No other process downloads this model meanwhile; the kernel lets go of the lock however a process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / f".{model}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _fetch(link: WeightsDownload, progress: DownloadProgress | None) -> None:
    """Bring one file here, whole and checked, or raise _Failed."""
    if any(target.is_file() for target in link.targets):  # of an earlier download that didn't get to the end
        return
    for url, target in zip(link.urls, link.targets, strict=True):
        with contextlib.suppress(_Gone):
            _fetch_one(url, target, link.sha256, progress)
            return
    if not link.optional:
        raise _Failed(f"the server has no {link.urls[-1]} (404)")


class _TimedAdapter(HTTPAdapter):
    """Requests' connections as timed ones, through a proxy too."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # which needs connections of its own
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
                raise _Failed(f"{urlsplit(url).netloc} took more than {_LONGEST_S / 3600:g} hours") from None
            except (_Failed, requests.RequestException, urllib3.exceptions.HTTPError) as error:
                failed = error if isinstance(error, _Failed) else _Failed(_in_words(url, error), again=True)
                if not failed.again or attempt == _TRIES - 1:
                    raise failed from None
                time.sleep(_WAIT_S * 2**attempt)
            except OSError as error:
                if error.errno in _NO_ROOM:  # what is there already is in the way of everybody
                    part.unlink(missing_ok=True)
                raise
    part.replace(target)


def _stream(
    session: requests.Session, url: str, part: Path, sha256: str | None, progress: DownloadProgress | None
) -> None:
    """Append what is missing to `part`, and check it.

    Raises _Failed, _Gone, OutOfTime, OSError, and the errors of requests and urllib3.
    """
    begun = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
        if answer.status_code == 416:  # the part is as long as the file, or longer: whatever it is, not its beginning
            part.unlink(missing_ok=True)
            raise _Failed("what an earlier download left does not fit", again=True)
        _check_answer(answer, part)
        if answer.status_code != 206:
            begun = 0
        total = begun + (announced_bytes(answer.headers.get("Content-Length", "")) or 0)
        _check_size(total, url, part)
        if shutil.disk_usage(part.parent).free < total - begun:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        digest = _digest(part, begun)
        done = begun
        with part.open("ab" if begun else "wb") as file:
            for chunk in _arriving(answer, url):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if done > total:
                    _check_size(done, url, part)
                    if shutil.disk_usage(part.parent).free < _LEAST_FREE_BYTES:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if progress:
                    progress(done, total)
    if total > begun and done < total:
        raise _Failed(f"the line was cut after {done:,} of {total:,} bytes", again=True)
    wanted = sha256 or _checksum_told(answer)
    if (wanted and digest.hexdigest() != wanted) or not (wanted or _is_sound(part, url)):
        part.unlink(missing_ok=True)
        # A part of another version, or damaged, may have been the reason: once more from the beginning.
        reason = "its checksum is wrong" if wanted else "it is not what its name says"
        raise _Failed(f"what {url} sent is damaged, as {reason}; it was removed", again=begun > 0)


def _arriving(answer: requests.Response, url: str) -> Iterator[bytes]:
    """The bytes of an answer as they come. Raises _Failed when they come too slowly."""
    judged_at, judged_bytes = time.monotonic(), 0
    while chunk := answer.raw.read1(_CHUNK_BYTES, decode_content=False):
        yield chunk
        judged_bytes += len(chunk)
        took_s = time.monotonic() - judged_at
        if took_s > _PACE_S:
            if judged_bytes < _LEAST_BYTES_PER_S * took_s:
                slow = f"less than {_LEAST_BYTES_PER_S:,} bytes a second"
                raise _Failed(f"{urlsplit(url).netloc} sends {slow}", again=True)
            judged_at, judged_bytes = judged_at + took_s, 0


def _check_size(size: int, url: str, part: Path) -> None:
    most = _MOST_BYTES.get(Path(url).suffix, _MOST_TEXT_BYTES)
    if size > most:
        part.unlink(missing_ok=True)
        raise _Failed(f"{url} holds more than {most / 1e9:g} GB, as no model does")


def _check_answer(answer: requests.Response, part: Path) -> None:
    status = answer.status_code
    if status in (404, 410):
        raise _Gone
    if status not in (200, 206):
        part_is_kept = status >= 500 or status == 429
        raise _Failed(f"{answer.url} answered {status} {answer.reason}", again=part_is_kept)
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        part.unlink(missing_ok=True)
        raise _Failed(f"{answer.url} answered with a web page, not with a file: a proxy or a sign-in page, most likely")


def _digest(part: Path, length: int) -> "hashlib._Hash":
    digest = hashlib.sha256()
    if length:
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest


def _checksum_told(answer: requests.Response) -> str | None:
    """The hub gives a large file's SHA-256 where it sends on to the place that the file lies at."""
    for hop in (*answer.history, answer):
        told = hop.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", told):
            return told
    return None


def _is_sound(part: Path, url: str) -> bool:
    """For files that come without a checksum."""
    if not url.endswith(".json"):
        return part.stat().st_size > 0
    try:
        json.loads(part.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return True


def _in_words(url: str, error: requests.RequestException | urllib3.exceptions.HTTPError) -> str:
    host = urlsplit(url).netloc
    if isinstance(error, requests.exceptions.SSLError):
        return f"{host} can't be trusted: its certificate is not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy on the way to {host} refused"
    if isinstance(error, requests.ConnectTimeout):
        return f"{host} didn't answer in {_TIMEOUT_S[0]:.0f} s"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"{host} stopped sending"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | urllib3.exceptions.HTTPError):
        return f"the line to {host} was cut"
    return f"{host} can't be reached"
