"""A PBX to try: a company that telephones, over real AMI and ARI on loopback, and that misbehaves when asked to."""
