"""All that the demo PBX would report at a moment, for tests that compare it with what the app shows."""

from dataclasses import dataclass
from datetime import datetime

from pbx.demo.channels import Channel
from pbx.demo.company import PHONES, QUEUES, UNUSED_PHONE
from pbx.demo.simulated_asterisk import QueueState, SimulatedAsterisk, device_state, registrations_at


@dataclass(frozen=True, slots=True)
class PbxState:
    """The PBX at a moment."""

    queues: tuple[QueueState, ...]
    channels: tuple[Channel, ...]
    devices: dict[str, int]  # of each telephone, as a QueueMember's Status
    registrations: dict[str, str]  # of each trunk


def state_at(at: datetime, booted_at: datetime) -> PbxState:
    """The PBX at a moment. Its queues have counted since `booted_at`."""
    asterisk = SimulatedAsterisk(booted_at)
    channels = asterisk.channels_at(at)
    return PbxState(
        queues=tuple(asterisk.queue(queue, at) for queue in QUEUES),
        channels=channels,
        devices={phone.extension: device_state(phone.extension, channels) for phone in (*PHONES, UNUSED_PHONE)},
        registrations=registrations_at(at),
    )
