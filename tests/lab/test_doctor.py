"""The connection check on real Asterisk, working or broken on purpose. The fixes that it prints repair the fault."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbx.asterisk.doctor import CheckStep, check_connection
from pbx.settings import Connection
from tests.lab.process import wait_until
from tests.lab.provision import root_dir
from tests.lab.servers import AMI_SECRET, ARI_SECRET, LabServer
from tests.lab.spare_asterisk import SpareAsterisk

pytestmark = pytest.mark.lab

NAME = "2026/11/21/out-5551234-1001-20261121-085000-1795251000.1"
SPEECH = "usr/share/asterisk/sounds/en_US_f_Allison/demo-congrats.wav"
MANAGER = f"""
#include manager_custom.conf
[notebook]
secret = {AMI_SECRET}
read = all
write = all
"""
SNAPSHOT_NEEDS_SYSTEM = "PJSIPShowEndpoints, PJSIPShowContacts"


def check(connection: Connection) -> dict[str, CheckStep]:
    steps = {step.name: step for step in check_connection(connection)}
    assert not any(secret in step.model_dump_json() for step in steps.values() for secret in (AMI_SECRET, ARI_SECRET))
    return steps


def not_ok(steps: dict[str, CheckStep]) -> dict[str, str]:
    return {name: step.state for name, step in steps.items() if step.state not in ("ok", "skipped")}


@pytest.mark.parametrize("tls", [False, True])
def test_a_working_pbx_passes(server: LabServer, tls: bool) -> None:
    steps = check(server.connection(tls=tls))
    assert not_ok(steps) == {}
    assert len(steps) == (13 if tls else 11)
    assert f"Asterisk {server.version}." in steps["Asterisk version"].finding


def test_an_unknown_ca_is_reported_for_ami_and_ari(server: LabServer) -> None:
    steps = check(server.connection(tls=True).model_copy(update={"ca_file": None}))
    assert not_ok(steps) == {"AMI TLS": "failed", "ARI TLS": "failed"}
    assert all("unknown CA" in steps[name].finding for name in not_ok(steps))


def test_plain_and_tls_ports_mistaken_for_each_other_are_reported(server: LabServer) -> None:
    plain, tls = server.connection(), server.connection(tls=True)
    steps = check(tls.model_copy(update={"ami_port": plain.ami_port, "ari_port": plain.ari_port}))
    assert not_ok(steps) == {"AMI TLS": "failed", "ARI TLS": "failed"}
    assert all("doesn't speak TLS" in steps[name].finding for name in not_ok(steps))
    steps = check(plain.model_copy(update={"ami_port": tls.ami_port, "ari_port": tls.ari_port}))
    assert not_ok(steps) == {"AMI greeting": "failed", "ARI answers": "failed"}
    assert "FREEPBX_AMI_TLS" in steps["AMI greeting"].fix[0]
    assert "FREEPBX_ARI_TLS" in steps["ARI answers"].fix[0]


def test_ami_and_ari_ports_mistaken_for_each_other_are_reported(server: LabServer) -> None:
    steps = check(server.connection().model_copy(update={"ami_port": server.http_port, "ari_port": server.ami_port}))
    assert not_ok(steps) == {"AMI greeting": "failed", "ARI answers": "failed"}
    assert "A web server answers" in steps["AMI greeting"].finding
    assert "doesn't speak HTTP" in steps["ARI answers"].finding


@pytest.mark.parametrize(("user", "secret"), [("fenced", AMI_SECRET), ("notebook", "wrong"), ("nobody", AMI_SECRET)])
def test_ari_is_checked_after_a_refused_ami_login(server: LabServer, user: str, secret: str) -> None:
    changes = {"ami_username": user, "ami_password": secret}
    steps = check(Connection.model_validate(server.connection().model_dump() | changes))
    assert not_ok(steps) == {"AMI login": "failed"}
    assert f"[{user}]\n" in steps["AMI login"].fix[0]
    assert "permit = 127.0.0.1/255.255.255.255" in steps["AMI login"].fix[1]
    assert steps["Recording downloads"].state == "ok"


def test_ami_is_checked_after_a_refused_ari_login(server: LabServer) -> None:
    steps = check(server.connection().model_copy(update={"ari_username": "nobody"}))
    assert not_ok(steps) == {"ARI login": "failed"}
    assert steps["AMI permissions"].state == "ok"


def test_missing_ami_rights_are_listed(server: LabServer) -> None:
    permissions = check(server.connection().model_copy(update={"ami_username": "clerk"}))["AMI permissions"]
    assert permissions.state == "failed"
    assert "the class system is missing" in permissions.finding
    assert SNAPSHOT_NEEDS_SYSTEM in permissions.finding
    assert "write = system,reporting" in permissions.fix[0]


def test_the_advised_rights_are_sufficient(server: LabServer) -> None:
    steps = check(server.connection().model_copy(update={"ami_username": "analyst"}))  # write = system,reporting
    assert not_ok(steps) == {}


# The result of a check of the spare server without further faults: it has no queues, phones or trunks.
BASELINE = {"AMI permissions": "warning"}


@pytest.fixture(scope="module", params=[16, 22])
def spare(lab: None, request: pytest.FixtureRequest) -> Iterator[SpareAsterisk]:
    version: int = request.param
    server = SpareAsterisk(
        f"doctor-{version}", version, 5600 + version, suffix="-doctor", templates=("spare",), http_port=5700 + version
    )
    with server.fresh():
        yield server


@pytest.fixture
def broken(spare: SpareAsterisk) -> Iterator[SpareAsterisk]:
    """A working server with one recording, for a test to break. Each test starts with it restored."""
    spare.restart()
    with (spare.etc / "manager.conf").open("a") as file:
        file.write(MANAGER)
    (spare.etc / "manager_custom.conf").touch()
    spare.cli("manager reload")
    recording = spare.monitor / f"{NAME}.wav"
    recording.parent.mkdir(parents=True, exist_ok=True)
    recording.write_bytes((root_dir(22) / SPEECH).read_bytes())
    yield spare
    subprocess.run(["rm", "-rf", *spare.spool.iterdir()], check=True)


def connection_to(server: SpareAsterisk) -> Connection:
    ami = {"ami_username": "notebook", "ami_password": AMI_SECRET}
    return Connection.model_validate(server.connection().model_dump() | ami)


def check_after(server: SpareAsterisk, command: str) -> dict[str, CheckStep]:
    """Run an Asterisk CLI command, then check the connection."""
    server.cli(command)
    return check(connection_to(server))


def lines(fix: str) -> str:
    """The lines of a fix to copy, without the sentences before and after them."""
    return "\n".join(line for line in fix.splitlines()[1:] if not line.startswith(("then ", "and ")))


def run_lines(fix: str, server: SpareAsterisk) -> None:
    """Run the commands of a fix in the spool of this server."""
    script = lines(fix).replace("/var/spool/asterisk", str(server.spool)).replace("asterisk:asterisk", "root:root")
    subprocess.run(["sh", "-c", script], check=True)


def set_line(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_a_working_spare_server_has_only_the_baseline_warning(broken: SpareAsterisk) -> None:
    steps = check(connection_to(broken))
    assert not_ok(steps) == BASELINE
    assert "queues" in steps["AMI permissions"].finding
    assert NAME in steps["Recording downloads"].finding


@pytest.mark.parametrize("fault", ["missing", "broken link"])
def test_the_fix_creates_the_recording_directory(broken: SpareAsterisk, fault: str) -> None:
    broken.recording.unlink()
    if fault != "missing":
        broken.recording.symlink_to("nowhere")
    steps = check(connection_to(broken))
    assert not_ok(steps) == BASELINE | {"Recordings listed": "failed"}
    run_lines(steps["Recordings listed"].fix[0], broken)
    assert not_ok(check(connection_to(broken))) == BASELINE


def test_the_fix_deletes_a_broken_link_between_recordings(broken: SpareAsterisk) -> None:
    (broken.monitor / "2026/gone.wav").symlink_to("nowhere.wav")
    steps = check(connection_to(broken))
    assert not_ok(steps) == BASELINE | {"Recordings listed": "failed"}
    run_lines(steps["Recordings listed"].fix[1], broken)
    assert not_ok(check(connection_to(broken))) == BASELINE
    assert (broken.monitor / f"{NAME}.wav").exists()


def test_the_fix_finds_a_name_that_is_not_utf8(broken: SpareAsterisk) -> None:
    odd = str(broken.monitor / "2026").encode() + b"/caf\xe9.wav"
    Path(odd.decode(errors="surrogateescape")).write_bytes(b"")
    steps = check(connection_to(broken))
    assert not_ok(steps) == BASELINE | {"Recordings listed": "failed"}
    shown = lines(steps["Recordings listed"].fix[2]).replace("/var/spool/asterisk", str(broken.spool))
    assert subprocess.run(["sh", "-c", shown], capture_output=True, check=True).stdout.endswith(b"/2026/caf\xe9.wav\n")


def test_the_fix_replaces_an_empty_recording_directory_with_a_link(broken: SpareAsterisk) -> None:
    broken.recording.unlink()
    broken.recording.mkdir()
    steps = check(connection_to(broken))
    assert not_ok(steps) == BASELINE | {"Recordings listed": "warning"}
    run_lines(steps["Recordings listed"].fix[0], broken)
    assert not_ok(check(connection_to(broken))) == BASELINE


@pytest.mark.parametrize("top", ["monitor", "2026"])
def test_the_fix_replaces_a_linked_folder_that_serves_no_files(broken: SpareAsterisk, top: str) -> None:
    broken.recording.unlink()
    broken.recording.mkdir()
    (broken.recording / top).symlink_to("../monitor" if top == "monitor" else "../monitor/2026")
    steps = check(connection_to(broken))
    assert not_ok(steps) == BASELINE | {"Recording downloads": "failed"}
    assert f"recordings in {top}/ " in steps["Recording downloads"].finding
    run_lines(steps["Recording downloads"].fix[0], broken)
    assert not_ok(check(connection_to(broken))) == BASELINE


@pytest.mark.parametrize("content", [b"", b"RIFF" + bytes(40), b"Not a recording.\n" * 99])
def test_a_recording_without_sound_is_a_warning(broken: SpareAsterisk, content: bytes) -> None:
    (broken.monitor / f"{NAME}.wav").write_bytes(content)
    assert not_ok(check(connection_to(broken))) == BASELINE | {"Recording downloads": "warning"}


def test_the_fix_enables_ari(broken: SpareAsterisk) -> None:
    set_line(broken.etc / "ari.conf", "enabled = yes", "enabled = no")
    steps = check_after(broken, "module reload res_ari.so")
    assert not_ok(steps) == BASELINE | {"ARI answers": "failed"}
    assert lines(steps["ARI answers"].fix[0]) == "enabled = yes"
    set_line(broken.etc / "ari.conf", "enabled = no", lines(steps["ARI answers"].fix[0]))
    assert not_ok(check_after(broken, "module reload res_ari.so")) == BASELINE


def test_the_fix_names_the_http_prefix(broken: SpareAsterisk) -> None:
    set_line(broken.etc / "http.conf", "enabled = yes", "enabled = yes\nprefix = asterisk")
    steps = check_after(broken, "module reload http")
    assert not_ok(steps) == BASELINE | {"ARI answers": "failed"}
    name, _, prefix = lines(steps["ARI answers"].fix[0]).partition("=")
    assert (name, prefix) == ("FREEPBX_ARI_PREFIX", "asterisk")
    connection = connection_to(broken).model_copy(update={"ari_prefix": f"/{prefix}"})
    assert not_ok(check(connection)) == BASELINE
    set_line(broken.etc / "http.conf", "prefix = asterisk", "prefix =")
    assert not_ok(check_after(broken, "module reload http")) == BASELINE


def test_the_fix_enables_the_web_server(broken: SpareAsterisk) -> None:
    (broken.etc / "http.conf").write_text("[general]\nenabled = no\n")
    steps = check_after(broken, "module reload http")
    assert not_ok(steps) == BASELINE | {"ARI port open": "failed"}
    (broken.etc / "http.conf").write_text(lines(steps["ARI port open"].fix[0]))
    assert not_ok(check_after(broken, "module reload http")) == BASELINE


def test_the_fix_enables_ami(broken: SpareAsterisk) -> None:
    broken.stop()  # after a reload with AMI disabled, another reload doesn't always enable it
    set_line(broken.etc / "manager.conf", "enabled = yes", "enabled = no")
    broken.spawn([*broken.program, "-f"])
    wait_until("Asterisk without AMI is up", lambda: check(connection_to(broken))["ARI answers"].state == "ok")
    steps = check(connection_to(broken))
    assert not_ok(steps) == {"AMI port open": "failed"}
    (broken.etc / "manager_custom.conf").write_text(lines(steps["AMI port open"].fix[0]))
    assert not_ok(check_after(broken, "manager reload")) == BASELINE


def test_the_fix_adds_a_missing_ami_user(broken: SpareAsterisk) -> None:
    set_line(broken.etc / "manager.conf", "[notebook]", "[another]")
    steps = check_after(broken, "manager reload")
    assert not_ok(steps) == {"AMI login": "failed"}
    section = lines(steps["AMI login"].fix[0]).replace("(the same as FREEPBX_AMI_PASSWORD)", AMI_SECRET)
    (broken.etc / "manager_custom.conf").write_text(section)
    assert not_ok(check_after(broken, "manager reload")) == BASELINE
