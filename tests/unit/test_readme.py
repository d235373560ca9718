"""Commands, settings, make targets and files that the README names exist."""

import re
from typing import Any

from typer.main import get_command

from pbx.__main__ import app
from pbx.settings import Settings
from tests.paths import ROOT

README = (ROOT / "README.md").read_text()


def command_names() -> set[str]:
    """The commands of `python -m pbx`, as typed on the command line."""
    return set(commands_of(get_command(app)))


def commands_of(group: Any, prefix: str = "") -> dict[str, Any]:
    """All commands by what is typed for them; commands of a group have two words."""
    commands = {}
    for name, command in group.commands.items():
        commands |= commands_of(command, f"{name} ") if hasattr(command, "commands") else {prefix + name: command}
    return commands


def test_the_commands_and_options_in_the_readme_exist() -> None:
    commands = commands_of(get_command(app))
    described = re.findall(r"^python -m pbx (\w[\w -]*?)\s+#(.*)$", README, re.MULTILINE)
    assert {name for name, _ in described} == {name for name, command in commands.items() if not command.hidden}
    for name, text in described:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", text)) <= options, name


def test_the_documentation_lists_every_setting() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in text] == []


def test_the_readme_has_less_than_200_short_lines() -> None:
    lines = README.splitlines()
    assert len(lines) < 200
    assert [line for line in lines if len(line) > 120] == []


def test_the_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word for line in re.findall(r"\bmake ([a-z -]+?)\s*(?:#|`|$)", README, re.MULTILINE) for word in line.split()
    }
    assert named
    assert named <= targets


def test_the_pictures_and_links_in_the_readme_exist() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", re.sub(r"`[^`]*`", "", README))
    assert targets
    for target in targets:
        assert (ROOT / target).is_file(), target
