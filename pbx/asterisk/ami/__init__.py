"""AMI, the Asterisk Manager Interface: snapshots of the phone system, and its events as they happen."""
