"""The figures of queues, agents, calls and trunks for a period, and the lists of rows that add up to them."""
