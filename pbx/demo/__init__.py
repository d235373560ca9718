"""A PBX to try the app with: the calls of a made-up company, over AMI and ARI on the loopback interface."""
