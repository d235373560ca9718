"""What the app keeps is for its own user alone: folders are 700 and files 600.

New ones are so by the umask of each process of ours, which the entry points set. Windows knows no such modes; there the
user's own folder does it.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from pbx.settings import MADE_UP_DIR

# What the app puts into a data directory: by the folders it is known for one.
_DATA = frozenset({"audio", "playable", "imports", MADE_UP_DIR})
_FOLDERS = _DATA | {"models"}
_FILES = ("pbx.sqlite*", "secret.key", "freepbx.json", "worker.log", f"{MADE_UP_DIR}.log")


def make_private(data_dir: Path) -> None:
    """Take from other users what earlier versions, or a checkout, let them read of a data directory.

    A directory that holds other open folders, as /tmp would, is left as it is, and only what is ours in it is closed.
    Links are not followed, and what belongs to another user stays as it is.
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
            if path.name == MADE_UP_DIR and not path.is_symlink():  # closed already by earlier versions, its files not
                make_private(path)


def close_tree(path: Path) -> None:
    """Take a file, or a folder with all in it, from other users. Into a closed folder they can't look anyway."""
    with suppress(OSError):
        mode = path.lstat().st_mode
        if not mode & 0o077 or not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            return
        path.chmod(mode & 0o700)
        for entry in os.scandir(path) if stat.S_ISDIR(mode) else ():
            close_tree(Path(entry.path))
