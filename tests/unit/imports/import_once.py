"""Imports a queue_log in small blocks, for the test that kills it: `python -m tests.unit.imports.import_once FILE`."""

import sys
from pathlib import Path

from pbx.imports import files as history_files
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.settings import load_settings
from pbx.store.engine import open_engine

history_files.BLOCK_BYTES = 10_000
import_queue_log_files(open_engine(load_settings()), 1, [Path(sys.argv[1])])
