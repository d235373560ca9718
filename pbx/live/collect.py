"""Takes one snapshot of the PBX over AMI, and writes it to the cache and to a JSON file for other programs."""

import errno
import json
import os
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from sqlalchemy import Engine

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.queries import take_snapshot
from pbx.errors import DataError, StorageFull
from pbx.model.snapshot import Snapshot
from pbx.operating_system import replace_file
from pbx.progress import Stop
from pbx.store.engine import writing
from pbx.store.pbx_connections import ActiveConnection
from pbx.store.snapshots import record_snapshot


def collect_snapshot(
    engine: Engine, active: ActiveConnection, *, output: Path | None, private: bool = False, stop: Stop | None = None
) -> Snapshot:
    """Take a snapshot, store it, and write it to `output` as JSON, see `write_atomically`.

    It ends when `stop` is set. Raises AmiError or Unreachable when the PBX doesn't answer, and changes nothing then;
    DataError or StorageFull when the result can't be stored or written.
    """
    with AmiClient.connect(active.connection) as client, stop.closing(client.close) if stop else nullcontext():
        snapshot = take_snapshot(client)
    with writing(engine) as session:
        record_snapshot(session, active.id, snapshot)
    if output is not None:
        write_atomically(output, json.dumps(document(snapshot), ensure_ascii=False, indent=2) + "\n", private=private)
    return snapshot


def document(snapshot: Snapshot) -> dict[str, Any]:
    """The JSON of a snapshot, as in `freepbx.json`. Times are ISO 8601 in UTC; `parts` lists what is missing."""
    facts = snapshot.model_dump(mode="json", exclude={"taken_at", "system"})
    return {"collected_at": snapshot.taken_at.isoformat(), "system_info": _system_info(snapshot)} | facts


def _system_info(snapshot: Snapshot) -> dict[str, Any]:
    if snapshot.system is None:
        return {"version": None, "uptime": None}
    uptime_s = snapshot.system.uptime_s
    uptime = None if uptime_s is None else str(timedelta(seconds=uptime_s))
    return {"uptime": uptime} | snapshot.system.model_dump(mode="json")


def write_atomically(path: Path, text: str, *, private: bool = False) -> None:
    """Replace a file with a text in one step: readers see the old content or the new one, never a part of it.

    Other users can read the file and enter the folders created for it, unless it is `private`. Raises DataError or
    StorageFull.
    """
    part: Path | None = None
    missing = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in () if private else missing:
            folder.chmod(0o755)
        with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            part = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o600 if private else 0o644)  # for monitoring programs of other users; holds no secrets
        replace_file(part, path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"Not enough disk space to write {path}.", "Free disk space, then try again.") from error
        raise DataError(
            f"{path} can't be written: {error.strerror}.", "Choose a place that this user may write to (--output)."
        ) from error
