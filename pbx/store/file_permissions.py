"""Keep the app's data private to its own user: folders have mode 700, files have mode 600.

New folders and files get these modes from the umask, which the entry points set for every process of the app. Windows
has no such modes; there, the permissions of the user's own folder protect the data.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from pbx.settings import NESTED_DATA_DIRS

# What the app creates in a data directory: names of folders, and patterns of files.
_DATA = frozenset({"audio", "playable", "imports", "columns"}) | NESTED_DATA_DIRS
_FOLDERS = _DATA | {"models"}
_FILES = ("pbx.sqlite*", "secret.key", "freepbx.json", "worker.log", *(f"{name}.log" for name in NESTED_DATA_DIRS))


def make_private(data_dir: Path) -> None:
    """Remove other users' access to a data directory that an earlier version or a checkout left readable.

    A directory shared with other programs keeps its mode, and only the app's own files in it become private. It counts
    as shared if it contains other folders that other users can access, or if it is sticky like /tmp. Symbolic links
    are not followed, and files of another user keep their modes.
    """
    if os.name == "nt":
        return
    with suppress(OSError):
        found = [Path(entry.path) for entry in os.scandir(data_dir)]
        others = [path for path in found if path.name not in _FOLDERS and stat.S_ISDIR(path.lstat().st_mode)]
        if not any(path.stat().st_mode & 0o077 for path in others) and not data_dir.stat().st_mode & stat.S_ISVTX:
            data_dir.chmod(0o700)
        else:
            found = [path for path in found if path.name in _DATA or any(map(path.match, _FILES))]
        for path in found:
            close_tree(path)
            # Earlier versions made a nested data directory private, but not its files.
            if path.name in NESTED_DATA_DIRS and not path.is_symlink():
                make_private(path)


def close_tree(path: Path) -> None:
    """Remove other users' access to a file, or to a folder and all that it contains.

    A folder that is already private is skipped: other users can't look inside.
    """
    with suppress(OSError):
        mode = path.lstat().st_mode
        if not mode & 0o077 or not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            return
        path.chmod(mode & 0o700)
        for entry in os.scandir(path) if stat.S_ISDIR(mode) else ():
            close_tree(Path(entry.path))
