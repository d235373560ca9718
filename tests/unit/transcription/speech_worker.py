"""A worker whose transcriber uses the scripted engine. It takes the arguments of the command `worker`."""

import sys

from pbx.jobs import worker
from pbx.transcription import supervisor as speech

worker.POLL_S = 0.05
worker.STOP_TIMEOUT_S = 1.0
speech.TRANSCRIBER_COMMAND = [sys.executable, "-m", "tests.unit.transcription.scripted_transcriber"]
sys.argv[1:] = ["worker", *sys.argv[1:]]

from pbx.__main__ import main  # noqa: E402

main()
