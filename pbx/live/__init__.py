"""Live data: listens to AMI events, turns them into visits and legs, and writes them to the cache."""
