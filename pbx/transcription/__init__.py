"""From a recording to a searchable transcript: the queue, the processes, the analysis, the search."""
