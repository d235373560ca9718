"""The connection check recognizes each fault of the manager interface and shows the fix."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.asterisk.ami.replay_server import Session, raw, replying
from tests.unit.asterisk.ari.replay_server import captured
from tests.unit.asterisk.doctor.working_pbx import AMI_STEPS, ARI_STEPS, check_steps, only_failed, working_pbx


def serve_http(session: Session) -> None:
    session.next_request()
    session.send(captured("404-path"))


def serve_ssh(session: Session) -> None:
    session.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
    session.next_request()


def stay_silent(session: Session) -> None:
    for _ in iter(session.next_request, b""):
        pass


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (serve_http, "A web server answers"),
        (serve_ssh, "isn't Asterisk's manager interface"),
        (stay_silent, "sent no greeting"),
        (lambda session: None, "without a greeting"),
    ],
)
def test_another_service_on_the_port_is_recognized_by_its_greeting(
    script: Callable[[Session], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbx.asterisk.doctor.ami.GREETING_S", 0.3)
    with working_pbx(script) as pbx:
        found = only_failed(check_steps(pbx.connection()), "AMI greeting", AMI_STEPS)
    assert words in found.finding


@pytest.mark.parametrize("version", [16, 22])
@pytest.mark.parametrize("answer", ["login-wrong-secret", "login-unknown-user", "login-fenced"])
def test_a_refused_login_lists_its_three_causes(version: int, answer: str) -> None:
    with working_pbx(lambda session: session.log_in(answer), version=version) as pbx:
        found = only_failed(check_steps(pbx.connection()), "AMI login", AMI_STEPS)
    assert "three causes" in found.finding
    assert "[notebook]\nsecret = (the same as FREEPBX_AMI_PASSWORD)\n" in found.fix[0]
    assert "/etc/asterisk/manager_custom.conf" in found.fix[0]
    assert "permit = 127.0.0.1/255.255.255.255" in found.fix[1]


def without_challenge(session: Session) -> None:
    """Refuse the AuthType as an Asterisk that doesn't know it, then accept the login and answer every action."""
    session.send(b"Asterisk Call Manager/11.0.0\r\n")
    refusal = b"Response: Error\r\nActionID: x\r\nMessage: Must specify AuthType\r\n\r\n"
    session.reply(session.next_action(), refusal)
    session.reply(session.next_action(), b"Response: Success\r\nActionID: x\r\nMessage: Accepted\r\n\r\n")
    for action in session.actions():
        session.answer(action)


def test_a_pbx_that_accepts_only_a_plain_password_is_reported_with_the_fix() -> None:
    with working_pbx(without_challenge) as pbx:
        found = only_failed(check_steps(pbx.connection()), "AMI login", AMI_STEPS)
    assert "password was not sent" in found.finding
    assert "FREEPBX_AMI_TLS" in found.fix[0]
    assert "FREEPBX_AMI_PLAIN_LOGIN=true" in found.fix[0]
    with working_pbx(without_challenge) as pbx:
        steps = check_steps(pbx.connection(ami_plain_login=True))
    assert steps["AMI login"].state == "warning"
    assert "sent in plain text" in steps["AMI login"].finding
    assert steps["AMI permissions"].state == "ok"


def test_an_endless_answer_is_reported_as_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.asterisk.ami.pending_action.MAX_ITEMS", 100)

    def endless(session: Session) -> None:
        session.log_in()
        action = session.next_action()
        session.reply(action, b"Response: Success\r\nActionID: x\r\nEventList: start\r\n\r\n")
        while True:
            session.reply(action, b"Event: Item\r\nActionID: x\r\n\r\n" * 50)

    with working_pbx(endless) as pbx:
        found = check_steps(pbx.connection())["AMI permissions"]
    assert found.state == "failed"
    assert "too large" in found.finding


def test_a_missing_user_name_fails_without_a_login_attempt() -> None:
    with working_pbx() as pbx:
        found = only_failed(check_steps(pbx.connection(ami_username="")), "AMI login", AMI_STEPS)
    assert "FREEPBX_AMI_USERNAME" in found.fix[0]


@pytest.mark.parametrize("version", [16, 22])
def test_missing_permissions_name_the_class_and_the_incomplete_parts(version: int) -> None:
    with working_pbx(version=version, prefix="denied-") as pbx:
        steps = check_steps(pbx.connection())
    found = steps["AMI permissions"]
    assert found.state == "failed"
    assert "the class system is missing" in found.finding
    assert "CoreStatus" in found.finding
    assert "QueueStatus" not in found.finding  # this action requires no permission
    assert found.finding.endswith("incomplete for: system, extensions, trunks, active calls.")
    assert "[notebook]\nread = system,call,agent,reporting,cdr\nwrite = system,reporting" in found.fix[0]
    assert steps["Asterisk version"].state == "warning"
    assert {steps[name].state for name in ARI_STEPS} == {"ok"}


def test_a_missing_reporting_class_is_named() -> None:
    with working_pbx(replying(CoreStatus=raw(22, "denied-CoreStatus"))) as pbx:
        found = check_steps(pbx.connection())["AMI permissions"]
    assert "may not run CoreStatus: the class reporting is missing." in found.finding


def test_a_part_whose_module_is_not_loaded_is_a_warning() -> None:
    with working_pbx(replying(QueueStatus=raw(22, "NoSuchAction"))) as pbx:
        steps = check_steps(pbx.connection())
    assert steps["AMI permissions"].state == "warning"
    assert steps["AMI permissions"].finding == "Asterisk has no support loaded for queues."
    assert "module load app_queue.so" in steps["AMI permissions"].fix[0]
    assert steps["Asterisk version"].state == "ok"


def test_an_action_that_is_never_answered_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.asterisk.doctor.ami.ACTION_S", 0.5)
    with working_pbx(replying(QueueStatus=b"")) as pbx:
        steps = check_steps(pbx.connection())
    assert steps["AMI permissions"].state == "failed"
    assert "to QueueStatus" in steps["AMI permissions"].finding
    assert steps["Asterisk version"].state == "ok"


def test_a_connection_lost_after_the_login_is_reported() -> None:
    with working_pbx(Session.log_in) as pbx:
        steps = check_steps(pbx.connection())
    assert steps["AMI permissions"].state == "failed"
    assert "is lost" in steps["AMI permissions"].finding
    assert steps["Asterisk version"].state == "warning"
    assert {steps[name].state for name in ARI_STEPS} == {"ok"}


def test_an_asterisk_version_without_recording_downloads_fails() -> None:
    old = raw(16, "CoreSettings").replace(b"AsteriskVersion: 16.28.0", b"AsteriskVersion: 13.38.3")
    with working_pbx(replying(CoreSettings=old)) as pbx:
        found = check_steps(pbx.connection())["Asterisk version"]
    assert found.state == "failed"
    assert "Asterisk 13.38.3" in found.finding


def test_tls_on_a_plain_port_is_explained() -> None:
    with working_pbx() as pbx:
        steps = check_steps(pbx.connection(ami_tls=True))
    found = only_failed(steps, "AMI TLS", ["AMI TLS", *AMI_STEPS[1:]])
    assert "doesn't speak TLS" in found.finding
    assert "FREEPBX_AMI_TLS" in found.fix[0]


def test_an_invalid_ca_file_fails_both_tls_steps(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with working_pbx() as pbx:
        steps = check_steps(pbx.connection(ami_tls=True, ari_tls=True, ca_file=tmp_path / "ca.pem"))
    for name in ("AMI TLS", "ARI TLS"):
        assert steps[name].state == "failed"
        assert "can't be read as PEM" in steps[name].finding
