"""Import a queue_log in small blocks, in a process that a test kills.

Usage: `python -m tests.unit.imports.import_in_subprocess FILE`
"""

import sys
from pathlib import Path

from pbx.imports import files
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.settings import load_settings
from pbx.store.engine import open_engine
from tests.unit.imports.import_runs import import_run

files.BLOCK_BYTES = 10_000
import_queue_log_files(import_run(open_engine(load_settings())), [Path(sys.argv[1])])
