"""Commands of the command line that came in groups of their own, and what they all need of a terminal."""
