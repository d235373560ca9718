"""Asterisk 16, as which the demo PBX answers."""

from pathlib import Path

from pbx.demo.ami_answers import ACTIONS
from pbx.demo.ami_messages import Release

ASTERISK_16 = Release(
    version="16.28.0",
    ami_version="5.0.4",
    list_items=Path(__file__).with_name("asterisk_16_list_items.txt"),
    empty_fields=frozenset({"ActiveChannels"}),
    actions=ACTIONS,
)
