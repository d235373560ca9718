"""Live data: listens to AMI events, turns them into visits and legs, and writes them to the cache.

From an event to a bar in a chart: `pbx.asterisk.ami.client` receives the event and `listener` passes it to
`events.LiveHistory`, where `visits` and `legs` follow each visit and call. `writer` stores what changed within a
second. `pbx.analytics.queues` and `pbx.analytics.calls` count the rows by interval, and pbx.charts draws each count as
a bar.
"""
