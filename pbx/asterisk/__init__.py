"""What Asterisk says: its two interfaces (AMI, ARI), the formats it writes, and a check of the connection."""
