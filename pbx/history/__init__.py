"""What happened on a PBX, from whatever tells of it: queue_log, the CDR, live events. The same facts from each."""
