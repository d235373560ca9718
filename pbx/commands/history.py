"""`python -m pbx import …`: what happened, from the PBX's own records."""

import typer

import_app = typer.Typer(name="import", help="Read what happened from the PBX's own records.", no_args_is_help=True)
