"""The command line, `python -m pbx`: one module per group of commands."""
