"""What the data adds up to: the figures of queues, agents, calls and trunks for a period."""
