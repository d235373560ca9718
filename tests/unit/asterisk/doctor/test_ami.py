"""What may be wrong with the manager interface, replayed, and what is said of it."""

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
def test_what_is_not_ami_is_told_by_its_greeting(
    script: Callable[[Session], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pbx.asterisk.doctor.ami.GREETING_S", 0.3)
    with working_pbx(script) as pbx:
        found = only_failed(check_steps(pbx.connection()), "AMI greeting", AMI_STEPS)
    assert words in found.finding


@pytest.mark.parametrize("version", [16, 22])
@pytest.mark.parametrize("answer", ["login-wrong-secret", "login-unknown-user", "login-fenced"])
def test_a_refused_login_names_its_three_causes(version: int, answer: str) -> None:
    with working_pbx(lambda session: session.log_in(answer), version=version) as pbx:
        found = only_failed(check_steps(pbx.connection()), "AMI login", AMI_STEPS)
    assert "three causes" in found.finding
    assert "[notebook]\nsecret = (the same as FREEPBX_AMI_PASSWORD)\n" in found.fix[0]
    assert "/etc/asterisk/manager_custom.conf" in found.fix[0]
    assert "permit = 127.0.0.1/255.255.255.255" in found.fix[1]


def without_challenge(session: Session) -> None:
    """Asterisk's words to an AuthType it doesn't know; the login is accepted, and all else is sound."""
    session.send(b"Asterisk Call Manager/11.0.0\r\n")
    refusal = b"Response: Error\r\nActionID: x\r\nMessage: Must specify AuthType\r\n\r\n"
    session.reply(session.next_action(), refusal)
    session.reply(session.next_action(), b"Response: Success\r\nActionID: x\r\nMessage: Accepted\r\n\r\n")
    for action in session.actions():
        session.answer(action)


def test_a_pbx_that_wants_the_password_in_clear_is_told_with_the_way_out() -> None:
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


def test_an_endless_answer_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_no_user_is_not_tried_at_the_pbx() -> None:
    with working_pbx() as pbx:
        found = only_failed(check_steps(pbx.connection(ami_username="")), "AMI login", AMI_STEPS)
    assert "FREEPBX_AMI_USERNAME" in found.fix[0]


@pytest.mark.parametrize("version", [16, 22])
def test_missing_rights_name_the_class_and_what_stays_unseen(version: int) -> None:
    with working_pbx(version=version, prefix="denied-") as pbx:
        steps = check_steps(pbx.connection())
    found = steps["AMI permissions"]
    assert found.state == "failed"
    assert "the class system is missing" in found.finding
    assert "CoreStatus" in found.finding
    assert "QueueStatus" not in found.finding  # that one asks for no right
    assert found.finding.endswith("incomplete for: system, extensions, trunks, active calls.")
    assert "[notebook]\nread = system,call,agent,reporting,cdr\nwrite = system,reporting" in found.fix[0]
    assert steps["Asterisk version"].state == "warning"
    assert {steps[name].state for name in ARI_STEPS} == {"ok"}


def test_reporting_alone_may_be_what_lacks() -> None:
    with working_pbx(replying(CoreStatus=raw(22, "denied-CoreStatus"))) as pbx:
        found = check_steps(pbx.connection())["AMI permissions"]
    assert "may not run CoreStatus: the class reporting is missing." in found.finding


def test_a_part_whose_module_is_not_there_is_a_warning() -> None:
    with working_pbx(replying(QueueStatus=raw(22, "NoSuchAction"))) as pbx:
        steps = check_steps(pbx.connection())
    assert steps["AMI permissions"].state == "warning"
    assert steps["AMI permissions"].finding == "Asterisk has no support loaded for queues."
    assert "module load app_queue.so" in steps["AMI permissions"].fix[0]
    assert steps["Asterisk version"].state == "ok"


def test_an_answer_that_never_comes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.asterisk.doctor.ami.ACTION_S", 0.5)
    with working_pbx(replying(QueueStatus=b"")) as pbx:
        steps = check_steps(pbx.connection())
    assert steps["AMI permissions"].state == "failed"
    assert "to QueueStatus" in steps["AMI permissions"].finding
    assert steps["Asterisk version"].state == "ok"


def test_a_connection_that_breaks_off_is_a_finding() -> None:
    with working_pbx(Session.log_in) as pbx:
        steps = check_steps(pbx.connection())
    assert steps["AMI permissions"].state == "failed"
    assert "is lost" in steps["AMI permissions"].finding
    assert steps["Asterisk version"].state == "warning"
    assert {steps[name].state for name in ARI_STEPS} == {"ok"}


def test_an_asterisk_too_old_to_hand_recordings_out() -> None:
    old = raw(16, "CoreSettings").replace(b"AsteriskVersion: 16.28.0", b"AsteriskVersion: 13.38.3")
    with working_pbx(replying(CoreSettings=old)) as pbx:
        found = check_steps(pbx.connection())["Asterisk version"]
    assert found.state == "failed"
    assert "Asterisk 13.38.3" in found.finding


def test_tls_asked_of_a_plain_port() -> None:
    with working_pbx() as pbx:
        steps = check_steps(pbx.connection(ami_tls=True))
    found = only_failed(steps, "AMI TLS", ["AMI TLS", *AMI_STEPS[1:]])
    assert "doesn't speak TLS" in found.finding
    assert "FREEPBX_AMI_TLS" in found.fix[0]


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with working_pbx() as pbx:
        steps = check_steps(pbx.connection(ami_tls=True, ari_tls=True, ca_file=tmp_path / "ca.pem"))
    for name in ("AMI TLS", "ARI TLS"):
        assert steps[name].state == "failed"
        assert "can't be read as PEM" in steps[name].finding
