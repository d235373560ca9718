"""Imports a queue_log in small blocks, for the test that kills it: `python -m tests.jobs.import_once FILE`."""

import sys
from pathlib import Path

from pbx.jobs import history_files
from pbx.jobs.import_history import import_queue_log
from pbx.settings import load_settings
from pbx.store.engine import open_engine

history_files.BLOCK_BYTES = 10_000
import_queue_log(open_engine(load_settings()), 1, [Path(sys.argv[1])])
