"""Run one sync in a process that a test kills.

Usage: `python -m tests.unit.recordings.sync_in_subprocess HOST PORT PASSWORD DATA_DIR`
"""

import sys
from pathlib import Path

from pbx.recordings.sync import sync_recordings
from pbx.settings import Settings
from pbx.store.engine import open_engine
from pbx.store.pbx_connections import active_connection

settings = Settings(
    _env_file=None,
    freepbx_host=sys.argv[1],
    freepbx_ari_port=int(sys.argv[2]),
    freepbx_ari_username="notebook",
    freepbx_ari_password=sys.argv[3],
    pbx_data_dir=Path(sys.argv[4]),
)
engine = open_engine(settings)
active = active_connection(engine, settings)
assert active is not None
sync_recordings(engine, active, settings.audio_dir)
