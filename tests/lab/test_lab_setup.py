"""The lab is in its documented state on both versions. Other tests rely on it."""

import base64
import datetime as dt
import http.client
import json
import os
import re
import socket
import ssl
import wave
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.lab import calls
from tests.lab.__main__ import up
from tests.lab.ami_session import SNAPSHOT_ACTIONS, Ami, Message
from tests.lab.process import wait_until
from tests.lab.provision import lab_dir
from tests.lab.servers import CARRIER, ODD_MEMBER, PHONES, SERVERS, LabServer

pytestmark = pytest.mark.lab


def run_action(server: LabServer, action: str, **headers: str) -> list[Message]:
    with calls.session(server) as ami:
        return ami.action(action, headers)


def ari(server: LabServer, path: str) -> object:
    credentials = base64.b64encode(f"{server.ari_username}:{server.ari_secret}".encode()).decode()
    trusted = ssl.create_default_context(cafile=lab_dir() / "ca.pem")
    line = http.client.HTTPSConnection(server.host, server.https_port, timeout=10, context=trusted)
    line.request("GET", f"/ari/{path}", headers={"Authorization": f"Basic {credentials}"})
    with line.getresponse() as reply:
        assert reply.status == 200
        answer = json.load(reply)
    line.close()
    return answer


def is_listed(call: calls.PlacedCall) -> bool:
    return {"name": call.recording, "format": "wav"} in ari(call.server, "recordings/stored")


def test_trunks_are_registered_rejected_and_down(server):
    items = run_action(server, "PJSIPShowRegistrationsOutbound")
    states = {item["ObjectName"]: item["Status"] for item in items if item.get("ObjectType") == "registration"}
    assert states == {"carrier": "Registered", "badcarrier": "Rejected"}
    contact = next(
        item for item in run_action(server, "PJSIPShowEndpoint", Endpoint="peer-down") if "RoundtripUsec" in item
    )
    assert contact["Status"] == "Unreachable"


def test_two_of_four_extensions_are_registered(server):
    states = {item["ObjectName"]: item["DeviceState"] for item in run_action(server, "PJSIPShowEndpoints")[1:-1]}
    extensions = {name: state == "Unavailable" for name, state in states.items() if name.isdigit()}
    assert extensions == {"1001": False, "1002": False, "1003": True, "1004": True}
    contacts = [item for item in run_action(server, "PJSIPShowContacts") if item.get("ObjectType") == "contact"]
    assert {(item["Endpoint"], item["Status"]) for item in contacts} == {("1001", "Reachable"), ("1002", "Reachable")}


def test_queues_have_their_agents_and_pause_reasons(server):
    items = run_action(server, "QueueStatus")
    queues = {item["Queue"] for item in items if item.get("Event") == "QueueParams"}
    members = [item for item in items if item.get("Event") == "QueueMember"]
    paused = {item["PausedReason"] for item in members if item["Queue"] == "billing" and item["Paused"] == "1"}
    assert queues == {"default", "sales", "support", "billing", "desk"}
    assert paused == {"", "Lunch", 'Back at 3 "o\'clock"'}
    assert ODD_MEMBER in {item["Name"] for item in members if item["Queue"] == "sales"}


@pytest.mark.parametrize(
    ("outcome", "last_event"),
    [("answered", "COMPLETEAGENT"), ("abandoned", "ABANDON"), ("timeout", "EXITWITHTIMEOUT")],
)
def test_queue_calls_end_as_requested(server, outcome, last_event):
    call = calls.place_queue_call(server, outcome, seconds=2)
    assert call.queue_events[0] == "ENTERQUEUE"
    wait_until(
        f"queue_log has {last_event}", lambda: call.queue_events[-1] == last_event
    )  # a separate thread writes it
    assert is_listed(call)
    assert (call.recorded_bytes > 44) == (outcome == "answered")


@pytest.mark.parametrize(
    ("outcome", "disposition"),
    [("answered", "ANSWERED"), ("busy", "BUSY"), ("noanswer", "NO ANSWER"), ("inbound", "ANSWERED")],
)
def test_trunk_calls_end_as_requested(server, outcome, disposition):
    call = calls.place_trunk_call(server, outcome, seconds=2)
    assert call.disposition == disposition
    assert is_listed(call)
    assert (call.recorded_bytes > 44) == (disposition == "ANSWERED")


@pytest.mark.parametrize(("to", "kind"), [("sales", "q"), ("1001", "external"), ("announcement", "in")])
def test_inbound_calls_are_named_as_freepbx_does(server, to, kind):
    call = calls.start_inbound_call(server, to)
    wait_until("it is recorded", lambda: call.recorded_bytes > 44)
    call.hangup()
    assert call.recording.split("/")[-1].split("-")[0] == kind


def test_recordings_have_the_sound_of_the_phones(server):
    call = calls.place_internal_call(server, seconds=2)
    with wave.open(str(call.recording_file)) as file:
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    assert len(samples) > 8000
    assert max(samples) > 3000


def test_recording_names_have_the_servers_local_time(server):
    call = calls.place_queue_call(server, "abandoned", seconds=1)
    stamp = re.search(r"-(\d{8}-\d{6})-([\d.]+)$", call.recording)
    local = dt.datetime.strptime(stamp[1], "%Y%m%d-%H%M%S").replace(tzinfo=ZoneInfo(server.timezone))
    assert abs(local.timestamp() - float(stamp[2])) < 5
    assert call.recording.startswith(local.strftime("%Y/%m/%d/"))


def test_the_header_of_a_growing_recording_has_no_length(server):
    call = calls.start_phone_call(server, "5551001")
    wait_until("the recording grows", lambda: call.recorded_bytes > 4000)
    being_written = call.recording_file.read_bytes()[:44]
    assert is_listed(call)
    call.hangup()
    finished = call.recording_file.read_bytes()[:44]
    assert being_written[4:8] == being_written[40:44] == bytes(4)
    assert int.from_bytes(finished[4:8], "little") == call.recorded_bytes - 8


def test_parked_callers_wait_until_they_are_hung_up(server):
    parked = calls.park_callers(server, 3)
    entries = {item["Uniqueid"] for item in run_action(server, "QueueStatus") if item.get("Event") == "QueueEntry"}
    assert {call.uniqueid for call in parked} <= entries
    for call in parked:
        call.hangup()
    assert not any(call.is_up() for call in parked)


def test_tls_certificates_are_signed_by_the_labs_authority(server):
    trusted = ssl.create_default_context(cafile=lab_dir() / "ca.pem")
    for name in ("localhost", "127.0.0.1"):
        with (
            socket.create_connection((server.host, server.ami_tls_port), timeout=10) as plain,
            trusted.wrap_socket(plain, server_hostname=name) as line,
        ):
            assert line.recv(64).startswith(b"Asterisk Call Manager/")


def test_the_analyst_can_read_everything_and_run_nothing(server):
    with Ami(server.host, server.ami_port) as ami:
        ami.login("analyst", server.ami_secret)
        assert {action: ami.action(action)[0]["Response"] for action in SNAPSHOT_ACTIONS} == dict.fromkeys(
            SNAPSHOT_ACTIONS, "Success"
        )
        assert ami.action("Command", {"Command": "core show version"})[0]["Message"] == "Permission denied"
        assert ami.action("Originate", {"Channel": "Local/s@caller"})[0]["Message"] == "Permission denied"


@pytest.mark.parametrize(("username", "secret"), [("notebook", "wrong"), ("nobody", ""), ("fenced", "")])
def test_refused_logins_get_the_same_reply(server, username, secret):
    with Ami(server.host, server.ami_port) as ami:
        answer = ami.login(username, secret or server.ami_secret)[0]
    assert (answer["Response"], answer["Message"]) == ("Error", "Authentication failed")


@pytest.mark.usefixtures("lab")
def test_up_does_not_restart_running_servers():
    processes = (*SERVERS.values(), CARRIER, PHONES)
    before = [process.pids() for process in processes]
    up()
    assert [process.pids() for process in processes] == before
    assert all(len(pids) == 1 for pids in before)


@pytest.mark.alone  # calls open further ports for their sound
@pytest.mark.usefixtures("lab")
def test_nothing_listens_beyond_loopback():
    sockets = set()
    for pid in (pid for process in (*SERVERS.values(), CARRIER, PHONES) for pid in process.pids()):
        links = (os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
        sockets |= {link[8:-1] for link in links if link.startswith("socket:[")}
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "udp", "tcp6", "udp6")]
    rows = [row.split() for table in tables for row in table]
    bound = [row[1].split(":") for row in rows if row[9] in sockets]
    services = {address for address, port in bound if int(port, 16) < 32768}  # higher ports are those of a DNS client
    assert services == {"0100007F"}
