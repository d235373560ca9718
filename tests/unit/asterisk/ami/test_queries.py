"""Snapshots from real Asterisk's replies: complete, without secrets, and with each failed part marked."""

import contextlib

import pytest

from pbx.asterisk.ami import queries
from pbx.asterisk.ami.client import AmiClient, AmiTiming
from pbx.asterisk.ami.queries import PART_ACTIONS, take_snapshot
from pbx.errors import AmiActionError, AmiDenied, Deadline, Unreachable
from pbx.model.snapshot import Snapshot
from tests.unit.asterisk.ami.replay_server import VERSIONS, Session, raw, replay, replying


def snapshot_of(version: int, prefix: str = "", timezone: str | None = None) -> Snapshot:
    with (
        replay(version=version, prefix=prefix) as server,
        AmiClient.connect(server.connection(timezone=timezone), timing=AmiTiming(idle_s=60)) as client,
    ):
        return take_snapshot(client)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_snapshot_lists_each_of_the_labs_devices_once(version: int) -> None:
    snapshot = snapshot_of(version)
    assert {part.state for part in snapshot.parts.values()} == {"ok"}
    assert set(snapshot.parts) == set(PART_ACTIONS)
    sip = ["1011"] if version == 16 else []
    assert [one.extension for one in snapshot.extensions] == ["1001", "1002", "1003", "1004", *sip, "1021"]
    assert {one.name: one.state for one in snapshot.trunks} == {
        "badcarrier": "rejected",
        "carrier": "registered",
        "iaxcarrier": "registered",
        "peer-down": "unreachable",
    } | ({"oldcarrier": "registered"} if version == 16 else {})
    assert [queue.name for queue in snapshot.queues] == ["billing", "sales", "support"]
    assert snapshot.system is not None
    assert snapshot.system.version.startswith(f"{version}.")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_snapshot_shows_the_labs_states_callers_and_calls(version: int) -> None:
    snapshot = snapshot_of(version)
    extensions = {one.extension: one for one in snapshot.extensions}
    assert extensions["1003"].status == "Unavailable"
    assert extensions["1001"].channels >= 1
    assert extensions["1001"].contact == "127.0.0.1:5070"
    assert extensions["1001"].roundtrip_ms is not None
    trunks = {one.name: one for one in snapshot.trunks}
    assert trunks["carrier"].channels >= 1
    assert (trunks["carrier"].registers, trunks["peer-down"].registers) == (True, False)
    assert trunks["peer-down"].server == "127.0.0.1:5999"
    queues = {one.name: one for one in snapshot.queues}
    assert queues["support"].calls == len(queues["support"].callers) == 2
    assert queues["support"].callers[0].caller_name == 'Ana "Zoë" <b>Ruiz</b> 🎉'
    assert queues["support"].longest_wait_s == max(caller.wait_s for caller in queues["support"].callers)
    assert {member.name: member.pause_reason for member in queues["billing"].members if member.paused} == {
        "Björn Åberg": "",
        "Jan Kowalski": "Lunch",
        "Kim Lee": 'Back at 3 "o\'clock"',
    }
    assert 'Zoë "Zo" <O\'Brien> 日本' in [member.name for member in queues["sales"].members]
    channels = [channel for call in snapshot.active_calls for channel in call.channels]
    assert len(channels) == len(set(channels)) == raw(version, "CoreShowChannels").count(b"Event: CoreShowChannel\r\n")
    non_ascii = next(call for call in snapshot.active_calls if call.caller_id == "+493055501")
    assert non_ascii.caller_name == 'Ana "Zoë" <b>Ruiz</b> 🎉'


@pytest.mark.parametrize("version", VERSIONS)
def test_no_secret_of_the_fixtures_is_exposed(version: int, caplog: pytest.LogCaptureFixture) -> None:
    assert b"lab-trunk-secret" in raw(version, "PJSIPShowRegistrationsOutbound")
    assert b"lab-trunk-secret" in raw(version, "PJSIPShowEndpoint-carrier")
    caplog.set_level(0)
    with (
        replay(version=version) as server,
        AmiClient.connect(server.connection(), events="on") as client,
        client.subscribe() as events,
    ):
        snapshot = take_snapshot(client)
        registrations = client.request("PJSIPShowRegistrationsOutbound")
        carrier = client.request("PJSIPShowEndpoint", [("Endpoint", "carrier")])
        with pytest.raises(AmiActionError) as caught:
            client.request("PJSIPShowEndpoint", [("Endpoint", "nobody")])
        raw_messages = [item.raw for item in (*registrations.messages, *carrier.messages)]
        shown_texts = [
            repr(registrations),
            repr(carrier),
            repr(client.connection),
            caught.value.advice,
            repr(caught),
            caplog.text,
        ]
        assert events.get(0) is None
    text = snapshot.model_dump_json() + repr(snapshot) + repr(raw_messages) + repr(shown_texts)
    for secret in ("lab-trunk-secret", "lab-phone-secret", "lab-ami-secret"):
        assert secret not in text


@pytest.mark.parametrize("version", VERSIONS)
def test_parts_without_permission_are_marked_denied_and_the_rest_is_complete(version: int) -> None:
    snapshot = snapshot_of(version, "denied-")
    assert {name: part.state for name, part in snapshot.parts.items()} == {
        "system": "denied",
        "extensions": "denied",
        "trunks": "denied",
        "queues": "ok",
        "active_calls": "denied",
    }
    assert "lacks the class system" in snapshot.parts["extensions"].reason
    assert [queue.name for queue in snapshot.queues] == ["billing", "sales", "support"]
    assert (snapshot.system, snapshot.extensions, snapshot.trunks, snapshot.active_calls) == (None, (), (), ())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_snapshot_of_an_empty_pbx_is_ok(version: int) -> None:
    snapshot = snapshot_of(version, "bare-")
    assert {part.state for part in snapshot.parts.values()} == {"ok"}
    assert (snapshot.extensions, snapshot.trunks, snapshot.queues, snapshot.active_calls) == ((),) * 4


def test_the_start_time_uses_the_pbx_offset_or_else_the_settings_time_zone() -> None:
    without_timezone = snapshot_of(16).system
    with_timezone = snapshot_of(16, timezone="Europe/Berlin").system
    assert without_timezone is not None
    assert without_timezone.utc_offset_s == 19_800
    assert with_timezone == without_timezone  # the PBX's own offset overrides the settings

    for timezone, offset in (("Asia/Kolkata", 19_800), (None, None)):
        with (
            replay(replying(Getvar=raw(16, "denied-CoreStatus")), version=16) as server,
            AmiClient.connect(server.connection(timezone=timezone)) as client,
        ):
            system = queries.fetch_system(client)
        assert system.utc_offset_s == offset
        assert system.started_at == (without_timezone.started_at if timezone else None)


def test_a_snapshot_needs_two_round_trips() -> None:
    batch_sizes: list[int] = []

    def serve_in_batches(session: Session) -> None:
        """Answer only when no action has arrived for 0.3 s: each such pause is one round trip."""
        session.log_in()
        session.sock.settimeout(0.3)
        while True:
            batch: list[dict[str, str]] = []
            with contextlib.suppress(TimeoutError):
                for action in session.actions():
                    batch.append(action)
                return
            if batch:
                batch_sizes.append(len(batch))
            for action in batch:
                session.answer(action)

    with replay(serve_in_batches) as server, AmiClient.connect(server.connection()) as client:
        snapshot = take_snapshot(client)
    assert len(batch_sizes) == 2
    assert {part.state for part in snapshot.parts.values()} == {"ok"}


def test_a_part_that_is_not_answered_fails_without_affecting_the_others() -> None:
    no_queues = replying(QueueStatus=b"")
    with replay(no_queues) as server, AmiClient.connect(server.connection(), timing=AmiTiming(idle_s=0.5)) as client:
        snapshot = take_snapshot(client)
        with pytest.raises(Deadline, match="QueueStatus"):
            queries.fetch_queues(client)
    assert snapshot.parts["queues"].state == "failed"
    assert "QueueStatus" in snapshot.parts["queues"].reason
    assert len(snapshot.trunks) == 4


def test_a_silent_or_lost_connection_gives_no_snapshot() -> None:
    def stay_silent(session: Session) -> None:
        session.log_in()
        list(session.actions())

    def disconnect(session: Session) -> None:
        session.log_in()
        session.next_action()

    with (
        replay(stay_silent) as server,
        AmiClient.connect(server.connection(), timing=AmiTiming(idle_s=0.1)) as client,
        pytest.raises(Deadline),
    ):
        take_snapshot(client)
    with (
        replay(disconnect, stay_silent) as server,
        AmiClient.connect(server.connection()) as client,
        pytest.raises(Unreachable, match="lost"),
    ):
        take_snapshot(client)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_part_fetched_alone_equals_that_of_the_snapshot(version: int) -> None:
    with replay(version=version) as server, AmiClient.connect(server.connection()) as client:
        snapshot = take_snapshot(client)
        assert queries.fetch_system(client) == snapshot.system
        assert queries.fetch_extensions(client) == snapshot.extensions
        assert queries.fetch_trunks(client) == snapshot.trunks
        assert queries.fetch_queues(client) == snapshot.queues
        assert queries.fetch_active_calls(client) == snapshot.active_calls
    with replay(version=version, prefix="denied-") as server, AmiClient.connect(server.connection()) as client:
        with pytest.raises(AmiDenied, match="CoreShowChannels"):
            queries.fetch_active_calls(client)
        assert queries.fetch_queues(client)
