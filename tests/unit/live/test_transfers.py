"""An agent transfers a caller into a queue: handwritten events, in every order in which they can arrive.

The lab's tests do the same with a real Asterisk.
"""

from datetime import timedelta

import pytest

from tests.unit.live.event_feed import EventFeed, event


def transfer_into_queue(pbx: EventFeed, queue: str, *, order: str, complete_as: str) -> None:
    """Agent 7 talks to the caller 1.1 of `sales`, calls a queue on 2.1, and transfers the caller into it."""
    pbx.join()
    pbx.connect()
    pbx.join("2.1", queue)
    completed = {"Uniqueid": complete_as, "Queue": "sales", "MemberName": "Eve", "Interface": "PJSIP/7"}
    steps = {
        "transfer": lambda: pbx.send(
            "AttendedTransfer",
            OrigTransfererUniqueid="1.2",
            SecondTransfererUniqueid="2.1",
            TransfereeUniqueid="1.1",
            DestType="App",
            DestApp="Queue",
            step_s=0.1,
        ),
        "complete": lambda: pbx.send(
            "AgentComplete", **completed, HoldTime=3, TalkTime=60, Reason="transfer", step_s=0.1
        ),
        "hangup": lambda: pbx.send("Hangup", Uniqueid="2.1", Cause=16, step_s=0.1),
    }
    for step in order.split():
        steps[step]()
        if step == "transfer":
            steps[step]()  # the event arrives twice


@pytest.mark.parametrize("queue", ["lab", "sales"])
@pytest.mark.parametrize("complete_as", ["1.1", "2.1"])
@pytest.mark.parametrize(
    "order",
    ["transfer complete hangup", "complete transfer hangup", "transfer hangup complete", "hangup transfer complete"],
)
def test_a_caller_transferred_into_a_queue_keeps_their_own_channel_there(
    queue: str, complete_as: str, order: str
) -> None:
    pbx = EventFeed()
    transfer_into_queue(pbx, queue, order=order, complete_as=complete_as)
    assert pbx.history.visits.queue_of("1.1") == queue
    pbx.updates(after=timedelta())
    entry = event("QueueEntry", Queue=queue, Uniqueid="1.1", Wait=1)
    pbx.resume(entries=[entry], channels=[event("CoreShowChannel", Uniqueid="1.1")])
    pbx.send(
        "AgentRingNoAnswer", Uniqueid="1.1", DestUniqueid="9.9", Queue=queue, MemberName="Gus", Interface="PJSIP/8"
    )
    pbx.send("QueueCallerLeave", Uniqueid="1.1", Queue=queue)
    agent = {"MemberName": "Gus", "Interface": "PJSIP/8"}
    pbx.send("AgentConnect", Uniqueid="1.1", Queue=queue, HoldTime=7, RingTime=2, **agent)
    last = {"Uniqueid": "1.1", "Queue": queue, "HoldTime": 7, "TalkTime": 173, "Reason": "agent"}
    pbx.send("AgentComplete", **last, **agent)
    rings = pbx.updates().rings
    assert [ring.uniqueid for ring in rings] == ["2.1"]
    first, second = (pbx.visits[key] for key in sorted(pbx.visits))
    assert (first.uniqueid, first.outcome, first.agent, first.wait_s, first.talk_s) == (
        "1.1",
        "transferred",
        "Eve",
        3,
        60,
    )
    assert (second.uniqueid, second.outcome, second.agent, second.wait_s, second.talk_s) == (
        "2.1",
        "answered",
        "Gus",
        7,
        173,
    )
    assert (first.target, len(pbx.visits)) == ("Queue", 2)
