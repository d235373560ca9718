"""AMI, Asterisk's manager interface: snapshots of the phone system, and its events as they happen."""
