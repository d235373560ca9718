"""The history as a listener would have recorded it: the AMI events of the demo, read by the app's own listener code."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pbx.asterisk.ami.protocol import Message
from pbx.demo.ami_messages import END, event_text
from pbx.demo.call_events import write_call_steps
from pbx.demo.channels import CallStep
from pbx.demo.company import TRUNKS, PlannedCall
from pbx.demo.simulated_asterisk import AmiEvent, SimulatedAsterisk
from pbx.demo.simulated_history import agent_changes_of_day, days_between
from pbx.live.events import USED_EVENTS, LiveHistory, LiveUpdates
from pbx.model.history import AgentEvent

_NEVER_RESTARTED = SimulatedAsterisk(datetime(2000, 1, 1, tzinfo=UTC))


def history_of_calls(
    calls: Iterable[PlannedCall], until: datetime, asterisk: SimulatedAsterisk = _NEVER_RESTARTED
) -> LiveUpdates:
    """The visits, rings and legs of these calls as a listener knows them at `until`.

    It takes the events of one call after the other, because no call changes what a listener records of another.
    """
    history = LiveHistory()
    history.legs.trunks = [trunk.name for trunk in TRUNKS]
    for call in calls:
        for step in write_call_steps(call, asterisk):
            if step.at <= until and step.device is None and step.name in USED_EVENTS:
                history.take(_message(step), step.at)
    return history.take_updates(until)


def history_of_agents(since: datetime, until: datetime) -> Sequence[AgentEvent]:
    """The agents' logins, pauses and logouts from `since` up to `until`, as a listener records them."""
    history = LiveHistory()
    for day in days_between(since, until):
        for change in agent_changes_of_day(day):
            if since <= change.happened_at < until:
                history.take(_message(_NEVER_RESTARTED.agent_event(change)), change.happened_at)
    return history.take_updates(until).agent_events


def _message(event: CallStep | AmiEvent) -> Message:
    return Message(event_text(event.name, event.group, event.headers).removesuffix(END + END).encode())
